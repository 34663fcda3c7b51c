import { assert, assertEquals } from "@std/assert";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { Frame } from "./frame.ts";
import { EMPTY, ENDED, FRAME, StreamFrames } from "./stream_frames.ts";

/** One end that speaks frames, the other one bytes. */
class Bench implements Disposable {
  readonly frames: StreamFrames;
  readonly peer: UnixSocket;
  readonly #ours: UnixSocket;

  constructor() {
    [this.#ours, this.peer] = UnixSocket.pair();
    this.frames = new StreamFrames(this.#ours.fd);
  }

  /** Writes bytes to the frames. */
  write(...parts: (readonly number[] | Uint8Array)[]): void {
    const bytes = new Uint8Array(parts.flatMap((part) => [...part]));
    for (let at = 0; at < bytes.length;) {
      const sent = this.peer.trySend(bytes.subarray(at));
      if (sent < 0) throw new Error("the socket is full");
      at += sent;
    }
  }

  /** The bytes that were sent, as many as there are. */
  read(): Uint8Array<ArrayBuffer> {
    const all: number[] = [];
    const buffer = new Uint8Array(65536);
    for (;;) {
      const n = this.peer.tryReceive(buffer, []);
      if (n <= 0) return new Uint8Array(all);
      for (let i = 0; i < n; i++) all.push(buffer[i]);
    }
  }

  /** The frame that was found. */
  get found(): Uint8Array<ArrayBuffer> {
    const { frame } = this.frames;
    const copy = new Frame(1, 70000);
    copy.copy(frame);
    const bytes = copy.bytes.slice(0, frame.length);
    copy[Symbol.dispose]();
    return bytes;
  }

  [Symbol.dispose](): void {
    this.frames[Symbol.dispose]();
    this.#ours[Symbol.dispose]();
    this.peer[Symbol.dispose]();
  }
}

function length(n: number): number[] {
  return [n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255];
}

function numbered(n: number, seed = 0): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: n }, (_, i) => i * 3 + seed);
}

Deno.test("frames are found wherever the stream is cut", () => {
  const frames = [numbered(60), numbered(14, 1), numbered(1514, 2)];
  const stream = frames.flatMap((frame) => [...length(frame.length), ...frame]);
  for (const step of [1, 3, 4, 61, 64, 65, 700, stream.length]) {
    using bench = new Bench();
    const found: Uint8Array[] = [];
    for (let at = 0; at < stream.length; at += step) {
      bench.write(stream.slice(at, at + step));
      while (bench.frames.next() === FRAME) found.push(bench.found);
    }
    assertEquals(found, frames, `in steps of ${step}`);
  }
});

Deno.test("many large frames pass through one buffer", () => {
  using bench = new Bench();
  for (let i = 0; i < 40; i++) {
    const frame = numbered(30_000 + i, i);
    bench.write(length(frame.length), frame);
    // The next one is begun: its start stays in the buffer.
    bench.write(length(20).slice(0, i % 4));
    assertEquals(bench.frames.next(), FRAME);
    assertEquals(bench.found, frame);
    assertEquals(bench.frames.next(), EMPTY);
    bench.write(length(20).slice(i % 4), numbered(20));
    assertEquals(bench.frames.next(), FRAME);
    assertEquals(bench.found, numbered(20));
  }
});

Deno.test("lengths that no frame has are passed over and counted", () => {
  using bench = new Bench();
  bench.write(length(13), numbered(13), length(0));
  bench.write(length(70_000), numbered(70_000), length(20), numbered(20));
  assertEquals(bench.frames.next(), FRAME);
  assertEquals(bench.found, numbered(20));
  assertEquals(bench.frames.badLength, 3);
  assertEquals(bench.frames.next(), EMPTY);
});

Deno.test("a length that makes no sense ends the stream", () => {
  using bench = new Bench();
  bench.write(length(2 ** 20 + 1), numbered(20));
  assertEquals(bench.frames.next(), ENDED);
  assertEquals(
    bench.frames.reason,
    "a frame of 1048577 bytes makes no sense",
  );
});

Deno.test("the end of the stream is told, after what came before", () => {
  using bench = new Bench();
  bench.write(length(20), numbered(20), length(20), numbered(7));
  bench.peer[Symbol.dispose]();
  assertEquals(bench.frames.next(), FRAME);
  assertEquals(bench.frames.next(), ENDED);
  assertEquals(bench.frames.reason, "it was closed");
});

Deno.test("frames are sent behind their length", () => {
  using bench = new Bench();
  using frame = new Frame(1, 100);
  frame.bytes.set(numbered(60));
  frame.takeBytes(0, 60);
  assert(bench.frames.send(frame));
  frame.takeBytes(2, 14);
  assert(bench.frames.send(frame));
  assertEquals(
    bench.read(),
    new Uint8Array([
      ...length(60),
      ...numbered(60),
      ...length(14),
      ...numbered(60).subarray(2, 16),
    ]),
  );
});

Deno.test("a full socket refuses frames, and none is cut", () => {
  for (const size of [1000, 65_000, 30_001]) {
    using bench = new Bench();
    using frame = new Frame(1, 65_536);
    const read: number[] = [];
    let sent = 0, refused = 0;
    while (sent < 60) {
      frame.bytes.set(numbered(size, sent));
      frame.takeBytes(0, size);
      if (bench.frames.send(frame)) sent++;
      else {
        refused++;
        for (const byte of bench.read()) read.push(byte);
        bench.frames.flush();
      }
      if (size < 30_000 && refused > 3) break;
    }
    let done = false;
    while (!done) {
      done = bench.frames.flush();
      for (const byte of bench.read()) read.push(byte);
    }
    assert(size < 30_000 || refused > 0, "the socket was never full");
    assertEquals(read.length, sent * (size + 4));
    for (let i = 0; i < sent; i++) {
      const at = i * (size + 4);
      assertEquals(read.slice(at, at + 4), length(size));
      assertEquals(read[at + 4], i & 255);
      assertEquals(read[at + 3 + size], (size - 1) * 3 + i & 255);
    }
  }
});

Deno.test("a peer that is gone takes frames to nowhere", () => {
  using bench = new Bench();
  bench.peer[Symbol.dispose]();
  using frame = new Frame(1, 100);
  frame.takeBytes(0, 60);
  assert(bench.frames.send(frame));
  assertEquals(bench.frames.next(), ENDED);
});
