"""The page of `report` in a browser: drawn, switched, read and alone."""

import pytest
from support import browser
from support.pages import HOSTILE
from support.pages import data_of
from support.pages import hostile_history

import keras_losskit as losskit
from keras_losskit.web.page import framed
from keras_losskit.web.page import page_of
from keras_losskit.web.page import sections
from keras_losskit.web.page import write_whole

#: Whether a picture has pixels near a colour.
SHOWS = """
const [title, colour] = arguments;
const wanted = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
const figure = [...document.querySelectorAll("figure")].find(
  (node) => node.querySelector("h3").textContent === title);
const canvas = figure.querySelector(".chart canvas");
const context = canvas.getContext("2d");
const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
let count = 0;
for (let k = 0; k < data.length; k += 4)
  count += data[k + 3] > 120 &&
    wanted.every((c, i) => Math.abs(c - data[k + i]) < 12);
return count;
"""
FIGURE = "//figure[h3/bdi[text()='{}']]"
VALUES = "Values of the terms"
STACK = "Contributions to the loss, training"


@pytest.fixture(scope="module")
def driver():
    driver = browser.start()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def history():
    """Values apart from one another, so that no line hides another."""
    history = {f"{name}_loss": [] for name in ("a", "b", "c")}
    history |= {f"{name}_contribution": [] for name in ("a", "b", "c")}
    for epoch in range(10):
        for index, name in enumerate(("a", "b", "c")):
            value = (index + 1.0) / (1.0 + 0.1 * epoch)
            history[f"{name}_loss"].append(value)
            history[f"{name}_contribution"].append(0.5 * value)
    contributions = [history[f"{name}_contribution"] for name in "abc"]
    history["loss"] = [sum(row) for row in zip(*contributions, strict=True)]
    validation = {f"val_{k}": [0.9 * x for x in v] for k, v in history.items()}
    return history | validation


@pytest.fixture(scope="module")
def page(history, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    return losskit.report(history, path)


def find(driver, path):
    from selenium.webdriver.common.by import By

    return driver.find_element(By.XPATH, path)


def entry(driver, title, label):
    return find(
        driver, FIGURE.format(title) + f"//label[.//bdi[text()='{label}']]"
    )


def value_of(driver, title, label):
    return entry(driver, title, label).find_element("css selector", "output")


def colours(page, title):
    data = data_of(page.html)
    (part,) = (
        part for part in data["sections"][0]["parts"] if part["title"] == title
    )
    return {
        line["label"]: data["palette"][line["colour"]]
        for line in part["lines"]
        if line["colour"] >= 0
    }


def test_every_term_is_drawn_and_nothing_is_asked_for(driver, page):
    for width in (400, 1600):
        for theme, paper in (
            ("light", "255, 255, 255"),
            ("dark", "21, 23, 26"),
        ):
            browser.show(driver, page.path, width, theme)
            assert browser.messages(driver) == []
            assert browser.requests(driver) == {page.path.as_uri()}
            for label, colour in colours(page, VALUES).items():
                assert driver.execute_script(SHOWS, VALUES, colour) > 20, label
            body = "getComputedStyle(document.body).backgroundColor"
            assert paper in driver.execute_script(f"return {body}")
            root = "document.documentElement.scrollWidth"
            assert driver.execute_script(f"return {root}") <= width


def test_a_term_is_switched_off_everywhere_and_stays_so(driver, page):
    browser.show(driver, page.path)
    colour = colours(page, VALUES)["b"]
    others = [c for label, c in colours(page, VALUES).items() if label != "b"]
    entry(driver, STACK, "b").click()
    for _ in range(2):
        assert driver.execute_script(SHOWS, VALUES, colour) == 0
        for other in others:
            assert driver.execute_script(SHOWS, VALUES, other) > 20
        assert (
            not entry(driver, VALUES, "b")
            .find_element("css selector", "input")
            .is_selected()
        )
        driver.refresh()
    find(driver, "//button[@id='all-on']").click()
    assert driver.execute_script(SHOWS, VALUES, colour) > 20
    assert browser.messages(driver) == []


def test_log_scale_and_smoothing_change_the_picture(driver, page):
    browser.show(driver, page.path)

    def picture():
        canvas = find(driver, FIGURE.format(STACK) + "//div/canvas")
        return driver.execute_script("return arguments[0].toDataURL()", canvas)

    plain = picture()
    find(driver, "//input[@id='log']").click()
    log = picture()
    find(driver, "//input[@id='log']").click()
    assert log != plain == picture()
    slider = find(driver, "//input[@id='smooth']")
    slider.send_keys("\ue014" * 16)  # the right arrow, 16 steps of 0.05
    assert find(driver, "//output[@id='smooth-value']").text == "0.8"
    assert picture() not in (plain, log)
    assert browser.messages(driver) == []


def test_values_are_those_of_the_epoch_under_pointer_and_keys(
    driver, page, history
):
    from selenium.webdriver import ActionChains

    browser.show(driver, page.path)
    chart = find(driver, FIGURE.format(VALUES) + "//div[@class='chart']")
    ActionChains(driver).scroll_to_element(chart).perform()
    over = chart.find_element("css selector", ".u-over")
    ActionChains(driver).move_to_element_with_offset(
        over, 5 - over.size["width"] // 2, 0
    ).perform()

    def expected(epoch):
        return [f"{history[p + 'b_loss'][epoch]:.5g}" for p in ("", "val_")]

    assert value_of(driver, VALUES, "b").text.split(" · ") == expected(0)
    # The pointer is at one epoch in all pictures.
    first = f"{history['b_contribution'][0]:.5g}"
    assert value_of(driver, STACK, "b").text == first
    driver.execute_script("arguments[0].focus()", chart)
    chart.send_keys("\ue014\ue014\ue014")
    assert value_of(driver, VALUES, "b").text.split(" · ") == expected(3)
    chart.send_keys("\ue010")  # End
    assert value_of(driver, VALUES, "b").text.split(" · ") == expected(9)


def test_the_table_has_every_number_of_the_history(driver, page, history):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.show(driver, page.path)
    figure = find(driver, FIGURE.format(VALUES))
    figure.find_element("css selector", "summary").click()
    waiting = WebDriverWait(driver, 10)
    waiting.until(lambda _: figure.find_elements("css selector", "tr"))
    rows = driver.execute_script(
        "return [...arguments[0].querySelectorAll('tr')].map("
        "(row) => [...row.children].map((cell) => cell.textContent))",
        figure,
    )
    head, *body = rows
    assert head == [
        "epoch",
        *(f"{n}{v}" for n in "abc" for v in ("", ", validation")),
    ]
    keys = [f"{p}{n}_loss" for n in "abc" for p in ("", "val_")]
    assert [[float(cell) for cell in row[1:]] for row in body] == [
        [history[key][epoch] for key in keys] for epoch in range(10)
    ]


def test_hostile_names_are_text(driver, tmp_path):
    other = {k: v[:5] for k, v in hostile_history().items()}
    report = losskit.report(
        [hostile_history(), other], tmp_path / "r.html", names=HOSTILE[:2]
    )
    for width in (400, 1600):
        browser.show(driver, report.path, width)
        assert browser.messages(driver) == []
        assert browser.requests(driver) == {report.path.as_uri()}
        root = "document.documentElement.scrollWidth"
        assert driver.execute_script(f"return {root}") <= width
    driver.execute_script(
        "document.querySelectorAll('details').forEach((d) => d.open = true)"
    )
    count = "document.querySelectorAll('img').length"
    assert driver.execute_script(f"return {count}") == 0
    texts = set(
        driver.execute_script(
            "return [...document.querySelectorAll('bdi')]"
            ".map((node) => node.textContent)"
        )
    )
    assert set(HOSTILE) <= texts
    assert {f"{name}_loss" for name in HOSTILE} <= texts


def test_a_live_page_takes_up_new_numbers_and_keeps_its_switches(
    driver, history, tmp_path
):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    path = tmp_path / "live.html"

    def write(epochs, live):
        run = {key: values[:epochs] for key, values in history.items()}
        write_whole(page_of(sections(run), live), path)

    write(3, 0.2)
    browser.show(driver, path)
    entry(driver, VALUES, "b").click()
    write(10, None)
    last = f"{history['c_loss'][-1]:.5g}"
    # While it looks for the value, the page may put another in its place.
    moves = [StaleElementReferenceException]
    waiting = WebDriverWait(driver, 20, ignored_exceptions=moves)
    waiting.until(lambda _: last in value_of(driver, VALUES, "c").text)
    box = entry(driver, VALUES, "b").find_element("css selector", "input")
    assert not box.is_selected()
    assert "Written" in find(driver, "//p[@id='status']").text
    assert browser.messages(driver) == []
    # No address but its own file.
    asked = {url.partition("?")[0] for url in browser.requests(driver)}
    assert asked == {path.as_uri()}


def test_the_page_of_a_notebook_keeps_its_switches_when_it_is_replaced(
    driver, history, tmp_path
):
    from selenium.webdriver.support.ui import WebDriverWait

    def frame(epochs, name="live.html"):
        run = {key: values[:epochs] for key, values in history.items()}
        return framed(page_of(sections(run), 0.2, kept_as=name))

    def enter(epochs, name="live.html"):
        """Put a page in place of the one that was there, as a notebook does."""
        driver.switch_to.default_content()
        script = "document.body.innerHTML = arguments[0]"
        driver.execute_script(script, frame(epochs, name))
        frames = driver.find_elements("css selector", "iframe")
        driver.switch_to.frame(frames[0])
        last = f"{history['c_loss'][epochs - 1]:.5g}"
        WebDriverWait(driver, 20).until(
            lambda _: last in value_of(driver, VALUES, "c").text
        )

    def is_shown(label):
        box = entry(driver, VALUES, label).find_element("css selector", "input")
        return box.is_selected()

    path = tmp_path / "notebook.html"
    path.write_text("<!DOCTYPE html><title>notebook</title><body>", "utf-8")
    browser.show(driver, path)
    enter(3)
    entry(driver, VALUES, "b").click()
    enter(10)
    assert (is_shown("a"), is_shown("b")) == (True, False)
    enter(5, "other.html")
    assert is_shown("b")
    assert browser.messages(driver) == []
    driver.switch_to.default_content()
