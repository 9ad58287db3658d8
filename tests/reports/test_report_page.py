"""The report in a real browser: offline, moved by hand, on a phone and on paper."""

import base64
import json

import browser as driven
import pytest
import reported

from contrastive.advice.advisor import Finding
from contrastive.reports import answer
from contrastive.reports.page import write_report

pytestmark = pytest.mark.skipif(
    driven.CHROMIUM is None, reason="no Chromium on the PATH: apt install chromium"
)

HISTOGRAM = "document.querySelectorAll('.plot')[2]"
NAME = "</script><b>by hand</b>"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    config = reported.experiment(name=NAME)
    folders = [
        reported.write_sweep(folder / "sweep", config=config),
        reported.write_run(folder / "a run with a long name, <i>as it is"),
        reported.write_run(folder / "diverged", None, losses=(4.0, 3.0, None)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "of_run", lambda folder: [Finding("healthy", "all is well", "rest")])
        return write_report(folders, folder / "report.html")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with driven.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desktop(chromium, written):
    chromium.ask("Emulation.setEmulatedMedia", media="")
    chromium.open(written)
    return chromium


def bins(browser, plot, trace):
    return browser.value(f"{plot}.data[{trace}].y.slice(1, -1)")


def click(browser, element):
    browser.value(f"{element}.scrollIntoView({{block: 'center'}})")
    box = browser.value(f"{element}.getBoundingClientRect().toJSON()")
    browser.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def complaints(browser):
    console = browser.told("Runtime.consoleAPICalled")
    errors = [line for line in console if line["type"] in ("error", "warning", "assert")]
    return browser.told("Runtime.exceptionThrown") + browser.told("Log.entryAdded") + errors


def test_it_asks_the_network_for_nothing(desktop, written):
    assert desktop.value("document.querySelectorAll('.plot .main-svg').length") > 10
    asked = [told["request"]["url"] for told in desktop.told("Network.requestWillBeSent")]
    assert asked[0] == written.as_uri()
    assert all(url.startswith("data:") for url in asked[1:])
    assert complaints(desktop) == []


def test_the_slider_moves_the_histograms_to_another_temperature(desktop):
    slider = "document.querySelector('input[type=range]')"
    words = f"{HISTOGRAM}.closest('.block').querySelector('.words p').textContent"
    click(desktop, slider)  # its middle is the second of three temperatures
    for key, code, place in (("Home", 36, 0), ("ArrowRight", 39, 1), ("End", 35, 2)):
        desktop.press(key, code)
        temperature = reported.TEMPERATURES[place]
        positive = {85 + 5 * place - 5: 0.5, 85 + 5 * place - 4: 0.5} if place < 2 else {90: 1.0}
        negative = {49: 0.75, 59 + place: 0.25}
        assert bins(desktop, HISTOGRAM, 0) == reported.bins(negative)
        assert bins(desktop, HISTOGRAM, 1) == reported.bins(positive)
        assert desktop.value(f"{slider}.previousElementSibling.textContent") == f"{temperature:g}"
        assert desktop.value(f"{slider}.getAttribute('aria-valuetext')") == f"{temperature:g}"
        assert desktop.value(words).startswith(f"Temperature {temperature:g}, step 20")
        assert f"Temperature {temperature:g}" in desktop.value(f"{HISTOGRAM}.ariaLabel")
    assert complaints(desktop) == []


def test_what_is_drawn_is_the_data(desktop):
    """The tops of the stairs, in pixels, against the axis."""
    click(desktop, "document.querySelector('input[type=range]')")
    desktop.press("End", 35)
    top = desktop.value(f"{HISTOGRAM}.querySelectorAll('.js-line')[0].getBBox().y")
    axis = f"{HISTOGRAM}._fullLayout.yaxis"
    assert top == pytest.approx(desktop.value(f"{axis}.l2p(0.75)"), abs=1)


def test_runs_have_a_menu_and_a_slider_over_steps(desktop):
    block = "document.querySelectorAll('.block')[3]"
    menu, slider, plot = (f"{block}.querySelector('{x}')" for x in ("select", "input", ".plot"))
    words = f"{block}.querySelector('.words').textContent"
    assert bins(desktop, plot, 1) == reported.bins({90: 1.0})
    click(desktop, slider)
    desktop.press("Home", 36)
    assert bins(desktop, plot, 1) == reported.bins({85: 1.0})
    desktop.value(f"{menu}.focus()")
    desktop.press("End", 35)
    desktop.value(f"{slider}.focus()")
    desktop.press("End", 35)
    assert desktop.value(f"{menu}.selectedOptions[0].textContent") == "diverged"
    assert bins(desktop, plot, 1) == reported.bins({95: 1.0})
    assert desktop.value(words).startswith("Temperature 0.3, step 30")


def test_the_menu_chooses_the_score(desktop):
    menu = "document.querySelector('select')"
    plot = "document.querySelector('.plot')"
    desktop.value(f"{menu}.focus()")
    for key, code, name, mean in (
        ("End", 35, "test/MRR@10", 0.375),
        ("Home", 36, "validation/nDCG@10", 0.75),
    ):
        desktop.press(key, code)
        assert desktop.value(f"{plot}.layout.yaxis.title.text") == name
        assert desktop.value(f"{plot}.data[1].y[1]") == pytest.approx(mean)


def test_words_from_files_are_words(desktop):
    assert desktop.value("document.title") == f"{NAME}, by hand"
    assert desktop.value("document.querySelectorAll('b, i').length") == 0
    labels = desktop.value("[...document.querySelectorAll('.legend li')].map(x => x.textContent)")
    assert " a run with a long name, <i>as it is" in labels


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_wider_than_the_screen(chromium, written, width):
    chromium.open(written, width=width, height=844, mobile=True)
    assert chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value("visualViewport.scale") == 1
    wide = (
        "[...document.querySelectorAll('.plot .main-svg, input, select')]"
        ".filter((x) => x.getBoundingClientRect().right > innerWidth).length"
    )
    assert chromium.value(wide) == 0
    assert complaints(chromium) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_tables_fit_on_a_phone_and_a_laptop(chromium, written, width):
    chromium.open(written, width=width, mobile=width < 1000)
    chromium.value("document.querySelectorAll('details').forEach((x) => { x.open = true; })")
    assert chromium.value("document.querySelectorAll('.table').length") > 3
    cut = "[...document.querySelectorAll('.table')].filter((x) => x.scrollWidth > x.clientWidth)"
    assert chromium.value(f"{cut}.map((x) => x.getAttribute('aria-label'))") == []
    squeezed = (
        "[...document.querySelectorAll('td, th')]"
        ".filter((x) => x.offsetWidth && x.offsetWidth < 40 && x.textContent.length > 5)"
    )
    assert chromium.value(f"{squeezed}.map((x) => x.textContent)") == []


def test_on_paper_pictures_fit_and_all_is_unfolded(desktop):
    watch = (
        "window.widths = [];"
        "addEventListener('beforeprint', () => { widths = "
        "[...document.querySelectorAll('.plot')].map((x) => x._fullLayout.width); })"
    )
    desktop.value(watch)
    printed = desktop.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    assert set(desktop.value("widths")) == {320, 670}
    assert desktop.value("document.querySelectorAll('details:not([open])').length") == 0
    after = desktop.value("document.querySelector('.plot')._fullLayout.width")
    assert after == desktop.value("document.querySelector('.plot').clientWidth")


@pytest.fixture(scope="module")
def of_many(tmp_path_factory):
    """Twenty runs that differ in two fields, and a dozen numbers that were measured once."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(20):
        changes = {"seed": number, "optimizer.learning_rate": 1e-3 * (number + 1)}
        config = reported.experiment(**changes)
        run = reported.write_run(folder / f"a run of some length {number}", config=config)
        with open(run / "metrics.jsonl", "a") as file:
            row = {f"validation/a number measured once {n}": n / 7 for n in range(12)}
            file.write(json.dumps({"step": 20, **row}) + "\n")
    folders = sorted(folder.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "of_run", lambda folder: [])
        return write_report(folders, folder / "report.html")


@pytest.mark.parametrize("paper", [True, False], ids=["paper", "phone"])
def test_tables_of_many_runs_are_not_cut_off(chromium, of_many, paper):
    chromium.ask("Emulation.setEmulatedMedia", media="print" if paper else "")
    size = {"width": 680} if paper else {"width": 390, "height": 844, "mobile": True}
    chromium.open(of_many, **size)  # 680 is A4 without its margins
    cut = "[...document.querySelectorAll('.table')].filter((x) => x.scrollWidth > x.clientWidth)"
    assert chromium.value(f"{cut}.length") == 0
    outside = (
        "[...document.querySelectorAll('td')]"
        ".filter((x) => x.getBoundingClientRect().right > innerWidth).length"
    )
    assert chromium.value(outside) == 0
    cells = "[...document.querySelectorAll('td[data-name$=\"measured once 11\"]')]"
    assert chromium.value(f"{cells}.map(x => x.textContent)") == ["1.57"] * 20  # 11 / 7
    named = f"getComputedStyle({cells}[19], '::before').content"
    assert "a number measured once 11" in chromium.value(named)


def test_a_move_of_a_slider_is_told_once(desktop):
    regions = "[...document.querySelectorAll('.block')].map(x => x.querySelectorAll('[aria-live]'))"
    assert set(desktop.value(f"{regions}.map(x => x.length)")) == {1}
    said = desktop.value(f"[...{regions}[2][0].children].map(x => x.textContent)")
    assert said[0].startswith("Temperature 0.1, step 20: the mean cosine")
    assert "% of the gradient comes from pairs" in said[1]


def test_what_cannot_see_is_told(desktop):
    assert desktop.value("document.documentElement.lang") == "en"
    headings = desktop.value("[...document.querySelectorAll('h1, h2, h3')].map(x => x.tagName)")
    assert headings[0] == "H1"
    assert headings.count("H1") == 1
    nodes = desktop.ask("Accessibility.getFullAXTree")["nodes"]
    names = [(x["role"]["value"], x["name"]["value"]) for x in nodes if "name" in x]
    assert [name for role, name in names if role == "slider"] == ["temperature", "step"]
    assert [name for role, name in names if role == "combobox"] == ["score", "score", "run"]
    tables = [name for role, name in names if role == "table"]
    assert tables[:2] == ["What other temperatures cost", "Scores"]
    roles = {role for role, _ in names}
    assert {"row", "rowheader", "columnheader", "cell"} <= roles
    figures = [name for role, name in names if role == "image" and name]
    assert len(figures) == desktop.value("document.querySelectorAll('.plot').length")
