#!/usr/bin/env python3
"""Headless Chromium by way of chromedriver, in the language of WebDriver (W3C), with nothing but the standard library.

    browser.py DRIVER PROFILE screenshot URL FILE WIDTH HEIGHT [SECONDS [dark]]

DRIVER is chromedriver's own address, such as http://127.0.0.1:9515, and PROFILE a new, empty folder.
"""

import base64
import json
import sys
import time
import urllib.error
import urllib.request

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --force-color-profile=srgb""".split()


class Browser:
    def __init__(self, driver, profile, width=1280, height=900):
        self.driver = driver
        options = {"args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = ""
        answer = self.send("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = "/" + answer["sessionId"]

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.driver}/session{self.session}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"].splitlines()[0]) from error

    def open(self, url):
        self.send("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value that a script returns."""
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, what, script, seconds=30):
        """Waits until a script returns something that is true, and returns it."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"never: {what}")
            time.sleep(0.2)

    def tool(self, command, **parameters):
        """A command of Chromium's own protocol."""
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def scheme(self, scheme):
        """What the user is said to like: light or dark."""
        self.tool("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width, height):
        self.tool("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def complaints(self):
        """What went wrong in the page: scripts that failed, resources and inline code that its policy refused."""
        return [entry["message"] for entry in self.send("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def screenshot(self, file):
        with open(file, "wb") as out:
            out.write(base64.b64decode(self.send("GET", "/screenshot")))

    def quit(self):
        self.send("DELETE", "")


def main():
    driver, profile, verb, url, file, width, height, *more = sys.argv[1:]
    assert verb == "screenshot", verb
    browser = Browser(driver, profile)
    try:
        browser.size(int(width), int(height))
        if "dark" in more:
            browser.scheme("dark")
        browser.open(url)
        time.sleep(float(more[0]) if more else 1)
        browser.screenshot(file)
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
