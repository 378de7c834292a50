"""A headless Chromium spoken to over its debugging socket: what a page logs, how wide it is, what it looks like."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--allow-file-access-from-files=false",
    "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
TIMEOUT = 60  # seconds for anything; the browser is killed afterwards
# Elements that stick out of the page to the right although no scrolling box holds them.
OVERFLOW = """(() => {
  const held = e => { for (; e && e !== document.body; e = e.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)) return true; return false; };
  return [...document.querySelectorAll('body *')].filter(e => !held(e.parentElement)
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 120));
})()"""


PALE = r"""(() => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
  const rgba = text => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, under) => under.map((v, i) => top[i] * top[3] + v * (1 - top[3]));
  const light = c => c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const up = function* (node) { for (; node; node = node.parentElement) yield node; };
  const found = new Set(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), at = walk.currentNode.parentElement, style = getComputedStyle(at);
    if (!text || !at.getClientRects().length || at.closest('script, style, option, :disabled') || style.visibility === 'hidden') continue;
    const svg = at.closest('svg'), grounds = [...up(svg || at)].map(n => rgba(getComputedStyle(n).backgroundColor)).reverse();
    const ground = grounds.reduce((under, top) => over(top, under), matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255]);
    const ink = rgba(svg ? style.fill : style.color);
    ink[3] *= [...up(at)].reduce((share, n) => share * getComputedStyle(n).opacity, 1);
    const [a, b] = [light(over(ink, ground)), light(ground)].sort((x, y) => y - x), size = parseFloat(style.fontSize);
    if ((a + .05) / (b + .05) < (size >= 24 || size >= 18.6 && style.fontWeight >= 700 ? 3 : 4.5)) found.add(`${at.tagName}.${at.className} ${text.slice(0, 20)}`);
  }
  return [...found];
})()"""
"""Texts whose contrast to what they stand on is below that of WCAG 2 AA."""


class Press(str):
    """Among scripts: a key that is pressed as a person presses it, so that the browser does what it does by itself."""


@dataclass
class Seen:
    """What happened while a page was open."""

    errors: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught exceptions, failed requests."""
    requests: list[str] = field(default_factory=list)
    """Addresses it asked for, data: aside."""
    overflow: list[str] = field(default_factory=list)
    title: str = ""
    results: list = field(default_factory=list)
    """Values of the scripts that were run in it."""


def look(page: Path, width: int = 1280, dark: bool = False, scripts=(), picture: Path | None = None) -> Seen:
    """Open a local page, run scripts in it one after the other, and take a picture of the whole page."""
    return asyncio.run(asyncio.wait_for(_look(page, width, dark, scripts, picture), TIMEOUT))


async def _look(page: Path, width: int, dark: bool, scripts, picture: Path | None) -> Seen:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, f"--user-data-dir={profile}", *FLAGS]
        browser = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            address = await asyncio.to_thread(_debugging_address, browser)
            async with aiohttp.ClientSession() as session:
                async with session.get(
                    address.replace("ws://", "http://").split("/devtools")[0] + "/json/list"
                ) as reply:
                    target = next(t for t in await reply.json() if t["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    return await _Tab(socket).visit(page, width, dark, scripts, picture)
        finally:
            browser.kill()
            browser.wait()
            browser.stderr.close()


def _debugging_address(browser: subprocess.Popen) -> str:
    for line in browser.stderr:
        if found := re.search(r"DevTools listening on (ws://\S+)", line):
            return found[1]
    raise RuntimeError("the browser ended before it listened")


class _Tab:
    """One tab: numbered calls out, replies and events in."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self.socket, self.calls, self.seen, self.loaded = socket, 0, Seen(), False

    async def visit(self, page: Path, width: int, dark: bool, scripts, picture: Path | None) -> Seen:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.resize(width, 900)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)
        await self.call("Page.navigate", url=page.resolve().as_uri())
        while not self.loaded:
            self.note((await self.socket.receive(TIMEOUT)).json())
        for script in scripts:
            done = self.press(script) if isinstance(script, Press) else self.run(script)
            self.seen.results.append(await done)
            await asyncio.sleep(0.3)
        self.seen.title, self.seen.overflow = await self.run("document.title"), await self.run(OVERFLOW)
        if picture:
            await self.resize(width, await self.run("document.documentElement.scrollHeight"))
            shot = await self.call("Page.captureScreenshot", format="png")
            picture.write_bytes(base64.b64decode(shot["data"]))
        return self.seen

    async def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13, "Escape": 27}.get(key, ord(key[0].upper()))
        typed = {"text": key} if len(key) == 1 else {}
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        for kind, more in (("keyDown", typed), ("keyUp", {})):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    async def run(self, script: str):
        reply = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return reply["result"].get("value")

    async def call(self, method: str, **params) -> dict:
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": params})
        while True:
            message = (await self.socket.receive(TIMEOUT)).json()
            if message.get("id") == self.calls:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, event: dict) -> None:
        name, params = event.get("method"), event.get("params", {})
        if name == "Page.loadEventFired":
            self.loaded = True
        elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.seen.errors.append(params["entry"]["text"])
        elif name == "Runtime.exceptionThrown":
            self.seen.errors.append(str(params["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.seen.errors.append(str(params["args"]))
        elif name == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.seen.requests.append(params["request"]["url"])
        elif name == "Network.loadingFailed" and not params.get("canceled"):
            self.seen.errors.append(f"failed: {params['errorText']}")


if __name__ == "__main__":  # python -m tests.browser PAGE PICTURE WIDTH light|dark
    import sys

    print(look(Path(sys.argv[1]), int(sys.argv[3]), sys.argv[4] == "dark", picture=Path(sys.argv[2])))
