// Live changes only while somebody looks: a browser has few connections to one server, and pages in
// the background would take them all. And whoever looks is told when what they see is old.
"use strict";

class WatchedSource {
  constructor(url) {
    this.url = url;
    this.listeners = [];
    this.follow = () => (document.hidden ? this.rest() : this.open());
    document.addEventListener("visibilitychange", this.follow);
    this.follow();
  }

  get readyState() {
    return this.source ? this.source.readyState : EventSource.CONNECTING;
  }

  open() {
    if (this.source) return;
    this.source = new EventSource(this.url);
    for (const [name, listener] of this.listeners) this.source.addEventListener(name, listener);
    this.source.onopen = (event) => this.onopen?.(event);
    this.source.onerror = (event) => {
      // What is closed for good is asked for by a new one.
      if (this.readyState === EventSource.CLOSED) document.removeEventListener("visibilitychange", this.follow);
      this.onerror?.(event);
    };
  }

  rest() {
    this.source?.close();
    this.source = undefined;
  }

  close() {
    document.removeEventListener("visibilitychange", this.follow);
    this.source?.close();
  }

  addEventListener(name, listener) {
    this.listeners.push([name, listener]);
    this.source?.addEventListener(name, listener);
  }

  removeEventListener(name, listener) {
    this.listeners = this.listeners.filter(([, one]) => one !== listener);
    this.source?.removeEventListener(name, listener);
  }
}

htmx.createEventSource = (url) => new WatchedSource(url);

const tell = (isLost) => { document.getElementById("lost").hidden = !isLost; };
document.addEventListener("htmx:sseError", () => tell(true));
document.addEventListener("htmx:sseOpen", () => tell(false));
