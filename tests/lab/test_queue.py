"""Who has the machine."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.backend import write_json
from lab.backends.runner import holds_ticket
from lab.processes import identity
from lab.queue import Queue

DEAD = [2**22 + 1, 0.0]  # a pid beyond Linux' largest


def holder(job: Path, runner: list) -> dict:
    job.mkdir(exist_ok=True)
    return {"job": str(job), "runner": runner}


def test_live_jobs_go_in_the_order_they_came_and_dead_ones_hold_nothing(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    queue.enter(holder(tmp_path / "dead", DEAD))
    first, second = (queue.enter(holder(tmp_path / name, me)) for name in ("a", "b"))
    assert (queue.place(first), queue.place(second)) == (0, 1)
    queue.leave(first)
    assert queue.place(second) == 0


def test_a_jobs_next_attempt_does_not_wait_for_the_ticket_of_its_killed_runner(tmp_path: Path):
    queue, job, me = Queue(tmp_path / "queue", holds_ticket), tmp_path / "job", identity(os.getpid())
    queue.enter(holder(job, DEAD))
    write_json(job / "run.json", {"runner": me})  # the next attempt's, in the same folder
    assert queue.place(queue.enter(holder(job, me))) == 0


def test_a_trainer_that_outlives_its_runner_keeps_the_machine(tmp_path: Path):
    queue, job, me = Queue(tmp_path / "queue", holds_ticket), tmp_path / "job", identity(os.getpid())
    queue.enter(holder(job, DEAD))
    write_json(job / "run.json", {"runner": DEAD, "trainer": me})
    assert queue.place(queue.enter(holder(tmp_path / "next", me))) == 1


def test_a_ticket_that_is_being_written_blocks_nobody(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    queue.enter(holder(tmp_path / "a", DEAD))
    (tmp_path / "queue" / ".0-torn.tmp").write_text("")
    assert queue.place(queue.enter(holder(tmp_path / "b", me))) == 0


def test_tickets_taken_at_once_are_all_different_and_in_one_order(tmp_path: Path):
    queue, me = Queue(tmp_path / "queue", holds_ticket), identity(os.getpid())
    holders = [holder(tmp_path / f"j{i}", me) for i in range(20)]
    with ThreadPoolExecutor(20) as pool:
        tickets = list(pool.map(queue.enter, holders))
    assert sorted(queue.place(ticket) for ticket in tickets) == list(range(20))


def test_a_ticket_that_leaves_while_one_looks_holds_nothing():
    assert not holds_ticket({})
