// Lets search work in pages that are opened from a folder. A browser starts no worker there,
// so the worker's script runs in a hidden frame instead.
if (location.protocol === "file:") {
  // As between a page and its worker: a copy, and not at once.
  const hand = (data, target) => {
    const copy = structuredClone(data);
    setTimeout(() => target.dispatchEvent(new MessageEvent("message", { data: copy })));
  };

  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const { contentWindow: inside, contentDocument: page } = this.#frame;
      inside.postMessage = (data) => hand(data, this);
      const script = page.createElement("script");
      script.src = new URL(url, location);
      this.#loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      page.body.append(script);
    }

    set onmessage(listener) {
      this.addEventListener("message", listener);
    }

    async postMessage(data) {
      await this.#loaded;
      hand(data, this.#frame.contentWindow);
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
