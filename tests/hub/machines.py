"""The machines of Jobs and Spaces, as the Hub lists them, and what they cost."""

# name, what people call it, vCPUs, GB of memory, GB of disk, (accelerator, how many, GB of one) or None, dollars an hour.
# Prices as documented in November 2026.
_TABLE = (
    ("cpu-basic", "CPU Basic", 2, 16, 50, None, 0.01),
    ("cpu-upgrade", "CPU Upgrade", 8, 32, 50, None, 0.03),
    ("t4-small", "Nvidia T4 - small", 4, 15, 50, ("T4", 1, 16), 0.40),
    ("t4-medium", "Nvidia T4 - medium", 8, 30, 100, ("T4", 1, 16), 0.60),
    ("l4x1", "1x Nvidia L4", 8, 30, 400, ("L4", 1, 24), 0.80),
    ("a10g-small", "Nvidia A10G - small", 4, 15, 110, ("A10G", 1, 24), 1.00),
    ("a10g-large", "Nvidia A10G - large", 12, 46, 200, ("A10G", 1, 24), 1.50),
    ("a10g-largex2", "2x Nvidia A10G - large", 24, 92, 1000, ("A10G", 2, 24), 3.00),
    ("a100-large", "Nvidia A100 - large", 12, 142, 1000, ("A100", 1, 80), 2.50),
    ("a100x4", "4x Nvidia A100", 48, 568, 4000, ("A100", 4, 80), 10.00),
    ("a100x8", "8x Nvidia A100", 96, 1136, 8000, ("A100", 8, 80), 20.00),
    ("h200", "Nvidia H200", 23, 256, 3000, ("H200", 1, 141), 5.00),
)


def _row(name: str, pretty: str, cpus: int, memory: int, disk: int, gpus: tuple | None, hourly: float) -> dict:
    accelerator = None
    if gpus:
        model, many, each = gpus
        accelerator = {"type": "gpu", "model": model, "quantity": str(many), "vram": f"{many * each} GB"}
        accelerator["manufacturer"] = "Nvidia"
    micro = round(hourly / 60 * 1e6)
    row = {"name": name, "prettyName": pretty, "cpu": f"{cpus} vCPU", "ram": f"{memory} GB", "accelerator": accelerator}
    row["ephemeralStorage"] = f"{disk} GB"
    return row | {"unitCostMicroUSD": micro, "unitCostUSD": micro / 1e6, "unitLabel": "minute"}


MACHINES = {row[0]: _row(*row) for row in _TABLE}


def inside(flavor: str) -> dict[str, str]:
    """What a container sees of its machine."""
    row = MACHINES[flavor]
    seen = {"CPU_CORES": row["cpu"].split()[0], "MEMORY": row["ram"].replace(" GB", "Gi")}
    return seen | {"ACCELERATOR": flavor if row["accelerator"] else "none"}
