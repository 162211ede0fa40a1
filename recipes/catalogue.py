"""Every recipe that `train` may run, by name. `evaluate` is the judge's, and `pretrain` makes the starter model."""

from recipes import chat, cpt, distill, dpo, grpo, kto, prm, rejection, reward, script, sft
from recipes.training import TrainingConfig

RECIPES: dict[str, type[TrainingConfig]] = {
    "sft": sft.Config,
    "chat": chat.Config,
    "dpo": dpo.Config,
    "kto": kto.Config,
    "grpo": grpo.Config,
    "rejection": rejection.Config,
    "distill": distill.Config,
    "reward": reward.Config,
    "prm": prm.Config,
    "cpt": cpt.Config,
    "script": script.Config,
}
