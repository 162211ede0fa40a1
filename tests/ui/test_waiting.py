"""What a page shows of a job that waits: its place, when it starts, and why it does not."""

from record import events as e
from tests.ui.conftest import Site
from tests.ui.test_work import lively


def test_a_waiting_job_shows_when_it_starts_or_why_it_does_not(site: Site, visit):
    name, log = site.session(lively)
    (said,) = log.append(e.Queued(job="sft-4", place=2, eta_s=600))
    page = visit(f"{site.url}/?session={name}")
    page.get_by_role("tab", name="Jobs").click()
    card, row = page.get_by_role("region", name="sft-4"), page.locator(".job-row", has_text="sft-4").locator(".row-end")
    card.get_by_text("Queued, 2 before it").wait_for()
    starts = page.evaluate(
        "at => new Date(at).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'})",
        1000 * (said.at.timestamp() + 600),
    )
    assert f"about {starts}" in card.inner_text()
    log.append(e.Queued(job="sft-4", place=1))
    card.get_by_text("Queued, 1 before it").wait_for()
    assert "unknown" in card.locator("dl div", has_text="Starts").inner_text()
    log.append(e.Queued(job="sft-4", place=0, reason="it needs about 9.0 GiB of memory, and others leave less free"))
    card.get_by_text("Waits for memory", exact=True).wait_for()
    assert "needs about 9.0 GiB" in card.inner_text() and row.inner_text() == "waits for memory"
    log.append(e.Queued(job="sft-4", place=0))
    card.get_by_text("Running", exact=True).wait_for()
    assert "GiB" not in card.inner_text() and "Starts" not in card.inner_text() and row.inner_text() == "starting"
    for reason, says in (
        ("its trainer has ended, and its adapter is made into a model", "Finishing"),
        ("t4-small of Hugging Face Jobs is being set up", "Being set up"),
    ):
        log.append(e.Queued(job="sft-4", place=0, reason=reason))
        card.get_by_text(says, exact=True).wait_for()
        assert reason in card.inner_text() and row.inner_text() == says.lower()
