"""How long a job will take, how much time one may use, and that who keeps to it overspends by one call at most."""

import random
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from lab.clock import UNMEASURED, Estimate, Room, estimate, room
from recipes import grpo, sft
from record.events import Budget, Ended, Event, Goal, Launched, Opened, Progressed, Queued, Replied
from record.views import Job, Views

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEFAULTS = {name: field.default for name, field in sft.Config.model_fields.items()}
ROWS = [{"prompt": "abc", "completion": "def"}] * 640
BASE = {"batch_size": 64, "max_steps": 100, "max_length": 128}


def views(*facts: Event, **budget) -> Views:
    goal = Goal(text="t", task="chains", model="m")
    opened = Opened(session="s", goal=goal, budget=Budget(**budget), driver="d", at=NOW)
    return Views(fact.model_copy(update={"seq": seq}) for seq, fact in enumerate([opened, *facts], start=1))


def ran(job: str, seconds: float, config: dict, recipe: str = "sft", step: int = 100, **result) -> list[Event]:
    state = "done" if result.pop("done", True) else "cancelled"
    return [
        Launched(job=job, recipe=recipe, config=config, machine="m", hours=1.0, folder=f"jobs/{job}", at=NOW),
        Progressed(job=job, step=step, values={"loss": 1.0}, at=NOW),
        Ended(job=job, state=state, seconds=seconds, result=result, at=NOW),
    ]


def guess(past: list[Event], config: dict, count=None) -> Estimate | None:
    jobs = [job for job in views(*past).jobs.values() if job.recipe == "sft"]
    return estimate(BASE | config, DEFAULTS, ROWS, count, jobs)


def test_nobody_knows_before_the_first_job_and_not_by_one_that_was_cut_off_without_its_speed():
    assert guess([], {}) is None
    assert guess(ran("sft-1", 30, BASE, done=False), {}) is None


def test_start_up_is_paid_once_and_steps_by_their_tokens():
    past = ran("sft-1", 40, BASE, tokens=64_000.0, tokens_per_second=2000.0)  # 32 s of training, 8 to start; 640 a step
    assert guess(past, {}) == Estimate(8.0, pytest.approx(0.32), 100)
    assert guess(past, {"max_steps": 200}).seconds == pytest.approx(8 + 64)  # type: ignore[union-attr]

    def twenty(texts):
        return [19] * len(texts)  # and one for the stop token: 64 rows of 20 are 1,280 a step

    assert guess(past, {}, twenty).seconds == pytest.approx(8 + 64)  # type: ignore[union-attr]
    assert guess(past, {"max_length": 10}, twenty).seconds == pytest.approx(8 + 32)  # type: ignore[union-attr]
    assert guess(past, {"packing": True}, twenty).a_step == pytest.approx(0.32 * 64 * 128 / 640)  # type: ignore[union-attr]


def test_a_recipe_that_samples_is_scaled_by_its_rows_and_the_length_of_its_answers():
    defaults = {name: field.default for name, field in grpo.Config.model_fields.items()}
    small = {"batch_size": 64, "max_steps": 100, "max_new_tokens": 32}
    past = list(views(*ran("grpo-1", 50, small, "grpo")).jobs.values())
    guessed = estimate(small | {"max_new_tokens": 64, "max_steps": 10}, defaults, ROWS, None, past)
    assert guessed == Estimate(0.0, pytest.approx(1.0), 10)


def test_without_tokens_a_step_is_scaled_by_its_rows_and_length():
    past = ran("sft-1", 50, BASE)
    assert guess(past, {"batch_size": 32, "grad_accumulation": 4}).seconds == pytest.approx(100)  # type: ignore[union-attr]
    assert guess(past, {"max_length": 256}).seconds == pytest.approx(100)  # type: ignore[union-attr]
    assert guess(past, {"max_steps": None, "epochs": 2.0}) == Estimate(0.0, 0.5, 20)  # 640 rows, 64 a step, twice


def test_a_job_of_the_same_shape_counts_before_a_later_one_of_another():
    other = ran("sft-2", 90, BASE | {"lora_rank": 8})
    assert guess(ran("sft-1", 50, BASE) + other, {}).seconds == pytest.approx(50)  # type: ignore[union-attr]
    assert guess(ran("sft-1", 50, BASE) + other, {"lora_rank": 8}).seconds == pytest.approx(90)  # type: ignore[union-attr]


def test_the_room_is_what_is_left_less_other_jobs_and_the_evaluations_to_come():
    assert room(views(), NOW) is None
    assert room(views(hours=1), NOW) == Room(3600, 0, 2 * UNMEASURED)
    dev = ran("e1", 20, {"split": "dev"}, "evaluate")
    assert room(views(*dev, hours=1), NOW) == Room(3600, 0, 20 + 40)  # held out has twice the items
    both = [*dev, *ran("e2", 50, {"split": "heldout"}, "evaluate")]
    waits = Launched(job="sft-1", recipe="sft", config={}, machine="m", hours=0.1, folder="jobs/sft-1", at=NOW)
    found = room(views(*both, waits, Queued(job="sft-1", place=0, at=NOW), hours=1), NOW + timedelta(seconds=60))
    assert found == Room(3540, 300, 50 + 50) and found.free == 3140


class World:
    """A driver that keeps to `over` and `room`, on a machine that runs one job after the other and ends each at its hours."""

    TICK = 10.0  # seconds between looks while it waits

    def __init__(self, rng: random.Random):
        self.rng, self.now = rng, NOW
        self.needs: dict[str, float] = {}  # seconds that each job would take
        self.price = rng.choice([0.0, rng.uniform(0.1, 20)])  # dollars an hour
        self.longest, self.tokens, self.dollars = self.TICK, 0, 0.0  # of one call
        self.views = views(
            hours=rng.choice([None, rng.uniform(0.1, 2)]), job_hours=rng.choice([None, rng.uniform(0.1, 2)]),
            dollars=rng.choice([None, rng.uniform(0.5, 5)]), tokens=rng.choice([None, rng.randint(1000, 50_000)]),
            calls=rng.choice([None, rng.randint(3, 40)]),
        )  # fmt: skip
        self.seq = 1

    def add(self, *facts: Event) -> None:
        for fact in facts:
            self.seq += 1
            self.views.add(fact.model_copy(update={"seq": self.seq, "at": self.now}))

    @property
    def over(self) -> bool:
        most = self.views.budget.calls or 300
        return self.views.over(self.now) is not None or self.views.spent.replies >= most

    def pass_time(self, seconds: float) -> None:
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            head = next(iter(self.views.running), None)
            if head is None:
                self.now = end
                return
            if head.began is None:
                self.add(Queued(job=head.id, place=0))
            allowed = min(self.needs[head.id], head.hours * 3600)
            rest = max(0.0, allowed - head.ran_s(self.now))
            self.now = min(end, self.now + timedelta(seconds=rest))
            if head.ran_s(self.now) >= allowed - 1e-3:
                self.ends(head, "done")

    def wait(self, job: str | None = None) -> None:
        for _ in range(self.rng.randint(1, 60) if job is None else 10**6):
            if self.over or (job and not self.views.jobs[job].running):
                return
            self.pass_time(self.TICK)

    def reply(self) -> None:
        tokens, dollars, seconds = self.rng.randint(10, 2000), self.rng.choice([None, self.rng.random()]), 30.0
        self.tokens, self.dollars = max(self.tokens, tokens), max(self.dollars, dollars or 0.0)
        self.longest = max(self.longest, seconds)
        self.pass_time(seconds)
        self.add(Replied(model="m", tokens_in=tokens, tokens_out=0, dollars=dollars))

    def launch(self, recipe: str, hours: float, needs: float) -> str:
        name = f"j{len(self.needs)}"
        self.needs[name] = needs
        split = {"split": self.rng.choice(["dev", "heldout"])} if recipe == "evaluate" else {}
        self.add(
            Launched(
                job=name, recipe=recipe, config=split, machine="m", hours=hours, folder=f"jobs/{name}", price=self.price
            )
        )
        return name

    def ends(self, job: Job, state: Literal["done", "cancelled"]) -> None:
        seconds = job.ran_s(self.now)
        self.add(Ended(job=job.id, state=state, seconds=seconds, dollars=job.dollars(seconds)))

    def train(self) -> None:
        left, hours = room(self.views, self.now, self.price), self.rng.uniform(0.01, 1.5)
        if left is None or left.free > 0:
            self.launch(
                "sft", hours if left is None else min(hours, left.free / 3600), self.rng.expovariate(1 / 1000) + 1
            )

    def act(self) -> None:
        self.reply()
        if self.over:
            return
        match self.rng.choice(("train", "train", "wait", "measure", "talk")):
            case "train":
                self.train()
            case "wait":
                self.wait()
            case "measure":
                self.wait(self.launch("evaluate", 1.0, self.rng.uniform(5, 200)))

    def end(self) -> None:
        for job in self.views.running:
            self.ends(job, "cancelled")


@pytest.mark.parametrize("block", range(10))
def test_no_schedule_overspends_a_cap_by_more_than_one_call(block):
    for number in range(100):
        world = World(random.Random(1000 * block + number))
        for _ in range(60):
            if world.over:
                break
            world.act()
        world.end()
        budget, spent = world.views.budget, world.views.spent
        assert spent.replies <= (budget.calls or 300)
        assert spent.tokens <= (budget.tokens or 10**9) + world.tokens
        assert spent.dollars <= (budget.dollars or 10**9) + world.dollars + world.price * world.longest / 3600
        assert spent.job_seconds <= (budget.job_hours or 10**9) * 3600 + world.longest
        assert world.views.elapsed_s(world.now) <= (budget.hours or 10**9) * 3600 + world.longest


@pytest.mark.parametrize("block", range(10))
def test_training_alone_never_uses_the_time_that_is_kept_for_judging(block):
    for number in range(20):
        world = World(random.Random(1000 * block + number))
        for _ in range(30):
            world.train()
            world.pass_time(world.rng.uniform(0, 600))
        budget, ran = world.views.budget, world.views.job_seconds(world.now)
        if budget.job_hours is not None:
            assert ran <= max(0.0, budget.job_hours * 3600 - 2 * UNMEASURED) + 1e-3
        if budget.dollars is not None and world.price:
            assert ran <= max(0.0, budget.dollars / world.price * 3600 - 2 * UNMEASURED) + 1e-3
