// Server-sent events of a fetch, which EventSource cannot read from an answer to POST.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

/** The data of each event of a ReadableStream of bytes. What is cut off before an event's blank line is no event. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      // A "\r" at the very end may be half of "\r\n": it waits for what comes.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // a stream that is left unread would go on
  }
}
