// The live stream of the daemon: it reconnects by itself, whatever ended it, and tells how fresh it is.

/** Without a word for so long, what the page shows is old: milliseconds, and times the usual pause between two
 * words. That is a second, and longer where the daemon has very many backends to tell of. */
const [STALE, STALE_PAUSES] = [5000, 4];
/** Three times as long, and the connection is given up: nobody may be at its other end. */
const GIVEN_UP = 3;
/** Between two attempts, at first and at the most. */
const [PAUSE, LONGEST_PAUSE] = [1000, 8000];

/**
 * Follows `url` for ever. `on.status`, `on.rates`, `on.event` and `on.missed` get the documents, `on.state` gets
 * `{ live: boolean, since: Date }`, where `since` is when something was heard last (or first awaited).
 */
export function follow(url, on) {
  let source = null;
  let heard = Date.now();
  let usual = 1000;
  let told = heard;
  let live = null;
  let pause = PAUSE;
  let retry = null;

  const tell = (now) => {
    if (live === now) return;
    live = now;
    on.state({ live, since: new Date(heard) });
  };
  const hear = (handle) => (message) => {
    let document;
    try {
      document = JSON.parse(message.data);
    } catch (error) {
      console.error("the stream carries what is no JSON", error);
      return;
    }
    heard = Date.now();
    pause = PAUSE;
    if (message.type === "status") {
      // Two that come together, because a browser was busy, say nothing of the pause between them.
      usual = Math.max(usual * 0.8, Math.min(heard - told, usual * 2));
      told = heard;
    }
    handle(document);
    tell(true);
  };
  const open = () => {
    retry = null;
    source?.close();
    source = new EventSource(url);
    for (const kind of ["status", "rates", "event", "missed"]) {
      source.addEventListener(kind, hear(on[kind]));
    }
    source.onerror = () => {
      tell(false);
      reopen();
    };
  };
  // The browser's own reconnecting stops at the first answer that is no stream, such as that of a proxy.
  const reopen = () => {
    source.close();
    if (retry !== null) return;
    retry = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  };
  setInterval(() => {
    const silent = Date.now() - heard;
    const patience = Math.max(STALE, usual * STALE_PAUSES);
    if (silent > patience) tell(false);
    if (silent > patience * GIVEN_UP && retry === null && source.readyState !== EventSource.CONNECTING) {
      reopen();
    }
  }, 1000);
  // Who comes back to the page, or to the network, does not want to wait.
  for (const [target, kind] of [
    [document, "visibilitychange"],
    [window, "online"],
  ]) {
    target.addEventListener(kind, () => {
      if (document.hidden || retry === null) return;
      clearTimeout(retry);
      open();
    });
  }
  open();
}
