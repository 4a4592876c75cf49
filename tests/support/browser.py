"""A headless Chromium for the tests of pages."""

import json
import os
import shutil

import keras
import pytest

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
)


def start():
    """A driver; skips without a browser, but fails where it must be there."""
    if keras.config.backend() != "torch":
        pytest.skip("a page knows no backend: tested in one leg, PyTorch's")
    programs = ("chromium", "google-chrome", "chromium-browser")
    found = [path for path in map(shutil.which, programs) if path]
    driver = shutil.which("chromedriver")
    if not found or not driver:
        reason = "no Chromium: apt-get install chromium chromium-driver"
        if os.environ.get("LOSSKIT_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for argument in ARGUMENTS:
        options.add_argument(argument)
    logs = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", logs)
    return webdriver.Chrome(options=options, service=Service(driver))


def show(driver, path, width=1600, theme="light"):
    """Open a file in a window of a width, in a system of a theme."""
    driver.get("about:blank")  # or the address alone would change
    driver.get_log("browser"), driver.get_log("performance")
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": 1000,
            "deviceScaleFactor": 1,
            "mobile": False,
        },
    )
    feature = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [feature]}
    )
    driver.get(path.as_uri())


def messages(driver):
    """What the console holds, but for what reading a canvas makes it say."""
    texts = [entry["message"] for entry in driver.get_log("browser")]
    return [text for text in texts if "willReadFrequently" not in text]


def requests(driver):
    """Addresses that were asked for since the page was opened."""
    entries = [
        json.loads(entry["message"])["message"]
        for entry in driver.get_log("performance")
    ]
    return {
        entry["params"]["request"]["url"].partition("#")[0]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    }
