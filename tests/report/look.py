#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Look at a page in headless Chromium, as on a phone and on a desk.

look.py PAGE DIR: writes DIR/WIDTH-light.png and DIR/WIDTH-dark.png, and says what is
wrong with what is seen: something wider than the screen, a plot in which nothing is
drawn or whose text is too small to read, a text that cannot be told from the paper.
Exit status 1 if anything is.

Chromium is spoken to over two pipes (its DevTools protocol: JSON that ends with a zero
byte), so nothing but Python's own library is needed, and no port is opened.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile

WIDTHS = [(390, 844), (1280, 900)]

# What is to be seen, and what is wrong with it: run in the page.
EXAMINE = """
(() => {
  const wrong = [];
  const seen = e => e.getClientRects().length > 0;
  const say = (e, what) => wrong.push(
    `<${e.tagName.toLowerCase()}> "${(e.textContent || "").trim().slice(0, 40)}": ${what}`);
  const luminance = text => {
    const c = text.match(/[\\d.]+/g).slice(0, 3).map(v => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const contrast = text => {
    const l = luminance(text);
    return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05);
  };

  if (document.documentElement.scrollWidth > innerWidth)
    wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const plots = [...document.querySelectorAll("figure svg")].filter(seen);
  for (const svg of plots) {
    const box = svg.getBoundingClientRect();
    if (box.width < 0.8 * Math.min(innerWidth, 932))
      say(svg, `only ${box.width} wide`);
    const drawn = [...svg.querySelectorAll("path")].filter(
      p => !p.classList.contains("gridline") &&
           /rgb/.test(p.getAttribute("stroke") || p.parentNode.getAttribute("color") || ""));
    const points = drawn.map(p => (p.getAttribute("d").match(/[ML ]-?[\\d.]+,/g) || []).length);
    if (Math.max(0, ...points) < 3)
      say(svg, "nothing is drawn");
    for (const t of svg.querySelectorAll("text")) {
      if (t.textContent.trim() === "") continue;
      const r = t.getBoundingClientRect();
      if (r.height < 9) say(t, `its text is ${r.height} high`);
      if (r.left < box.left - 1 || r.right > box.right + 1) say(t, "is cut off");
      if (contrast(getComputedStyle(t).fill) < 4.5) say(t, "hard to read");
    }
  }
  for (const e of document.querySelectorAll("th,td"))
    if (seen(e) && e.getBoundingClientRect().height > 3.5 * parseFloat(getComputedStyle(e).lineHeight))
      say(e, "broken into many lines");
  for (const e of document.querySelectorAll("h1,h2,h3,p,dt,dd,li,td,th,time,figcaption,footer"))
    if (seen(e) && contrast(getComputedStyle(e).color) < 4.5) say(e, "hard to read");
  return { wrong, plots: plots.length,
           headings: [...document.querySelectorAll("h1,h2")].map(h => h.textContent) };
})()
"""


class Browser:
    def __init__(self, profile):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def as_3_and_4():
            a, b = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--disable-background-networking",
             "--no-first-run", "--remote-debugging-pipe",
             f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_3_and_4, close_fds=False,
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.reader = ours_in
        self.buffer = b""
        self.writer = ours_out
        self.number = 0
        self.events = []

    def read(self):
        while b"\0" not in self.buffer:
            some = os.read(self.reader, 1 << 20)
            if some == b"":
                sys.exit("look.py: Chromium has ended")
            self.buffer += some
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def ask(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"look.py: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer.get("method"))

    def wait_event(self, name):
        while name not in self.events:
            self.events.append(self.read().get("method"))
        self.events.clear()

    def end(self):
        self.ask("Browser.close")
        self.process.wait()


def look(browser, session, page, directory, width, height, scheme):
    browser.ask("Emulation.setDeviceMetricsOverride", session, width=width,
                height=height, deviceScaleFactor=1, mobile=width < 500)
    browser.ask("Emulation.setEmulatedMedia", session,
                features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.ask("Page.navigate", session, url="file://" + page)
    browser.wait_event("Page.loadEventFired")
    found = browser.ask("Runtime.evaluate", session, expression=EXAMINE,
                        returnByValue=True)["result"]
    if "value" not in found:
        sys.exit(f"look.py: {found}")
    found = found["value"]
    picture = browser.ask("Page.captureScreenshot", session,
                          captureBeyondViewport=True)["data"]
    name = os.path.join(directory, f"{width}-{scheme}.png")
    with open(name, "wb") as out:
        out.write(base64.b64decode(picture))
    print(f"{width} {scheme}: {found['plots']} plots; {', '.join(found['headings'])}")
    for wrong in found["wrong"]:
        print(f"{width} {scheme}: {wrong}")
    return len(found["wrong"])


def main():
    page, directory = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        session = browser.ask("Target.attachToTarget", targetId=target,
                              flatten=True)["sessionId"]
        browser.ask("Page.enable", session)
        wrong = sum(look(browser, session, page, directory, *size, scheme)
                    for size in WIDTHS for scheme in ("light", "dark"))
        browser.end()
    sys.exit(1 if wrong else 0)


main()
