"""Where the session's numbers stand, the page says whether its work is kept on the Hub."""

import time
from dataclasses import replace

import pytest

from agent.kept import STATE
from lab.backend import write_json
from tests.ui import story
from tests.ui.conftest import SHOTS, Site, own_settings, served
from tests.ui.test_axe import LOOKS, clean


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory):
    """A page with the mirror on, and no worker that mirrors."""
    home = own_settings(tmp_path_factory.mktemp("home"))
    job_env = home.job_env | {"HF_ENDPOINT": "https://hub.invalid"}
    yield from served(replace(home, mirror="runs", keys={"HF_TOKEN": "hf_x"}, job_env=job_env))


@pytest.mark.parametrize(("theme", "width", "height"), LOOKS)
def test_the_page_says_whether_the_work_is_kept(mirrored: Site, visit, theme: str, width: int, height: int):
    name, _ = mirrored.session(lambda name: [*story.beginning(name), *story.ending()])
    page = visit(f"{mirrored.url}/?session={name}&__theme={theme}", width, height)
    if width < 500:
        page.get_by_role("button", name="Work").click()
    line, now = page.locator("p.kept"), time.time()
    line.get_by_text("Whether this session is kept on the Hub is not known yet.").wait_for()
    state = {"repo": "ada/runs", "why": "", "again": 0.0}
    one = {"kept": now - 40, "done": None, "late": 1, "foreign": "", "left_out": 1, "some": ["'data/x.bin'"]}
    SHOTS.mkdir(exist_ok=True)

    def told(text: str, what: str, **trouble) -> None:
        write_json(mirrored.settings.home / STATE, state | trouble | {"sessions": {name: one}})
        line.get_by_text(text).wait_for()
        clean(page, what)
        page.screenshot(path=SHOTS / f"kept_{what}_{theme}_{width}.png")

    told(" s ago; files on their way: 1. Left out, too big or oddly named, 1 in all: 'data/x.bin'.", "kept")
    assert line.get_by_role("link").get_attribute("href") == "https://hub.invalid/datasets/ada/runs"
    told("the Hub asks for a pause; next try in", "not", why="the Hub asks for a pause", again=now + 60)
    (mirrored.settings.home / STATE).unlink()


def test_of_a_folder_the_page_says_where_it_is_and_leads_nowhere(tmp_path_factory: pytest.TempPathFactory, visit):
    home = own_settings(tmp_path_factory.mktemp("home"))
    for site in served(replace(home, mirror="/data/ml-intern", keys={})):
        name, _ = site.session(lambda name: [*story.beginning(name), *story.ending()])
        one = {"kept": time.time() - 40, "done": None, "late": 0, "foreign": "", "left_out": 0, "some": []}
        told = {"repo": "/data/ml-intern", "why": "", "again": 0.0, "sessions": {name: one}}
        write_json(site.settings.home / STATE, told)
        line = visit(f"{site.url}/?session={name}").locator("p.kept")
        line.get_by_text("Kept in /data/ml-intern 4").wait_for()
        assert line.get_by_role("link").count() == 0


def test_where_the_mirror_is_off_the_page_says_so_and_a_replay_says_nothing(site: Site, visit):
    name, _ = site.session(story.beginning)
    page = visit(f"{site.url}/?session={name}")
    page.locator("p.kept").get_by_text("Not kept on the Hub: the mirror is off.").wait_for()
    page.goto(f"{site.url}/?replay=demo-chains&speed=max")
    page.locator(".ending").first.wait_for()
    assert page.locator("p.kept").count() == 0
