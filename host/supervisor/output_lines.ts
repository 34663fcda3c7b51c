/**
 * The lines that another process prints, from the end of a pipe.
 *
 * Theory of operation: the pipe is read as the reactor says so, one chunk at a
 * time, so a process that prints without end waits for the pipe and not for our
 * memory. Long lines are cut; the last lines are kept, because they tell why the
 * process ended.
 *
 * @module
 */

import { EPOLLIN } from "../../sys/epoll.ts";
import { type OwnedFd, readFd, setNonblocking } from "../../sys/fd.ts";
import type { Reactor, Watch } from "../../sys/reactor.ts";

const CHUNK = 1 << 14;
/** Characters of a line that are kept. */
const MAXIMUM_LINE = 2000;
/** Lines that are kept. */
const KEPT = 100;

/** Colours: the log is no place for them. */
const COLOURS = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");

/** Reads lines until the pipe ends. */
export class OutputLines implements Disposable {
  /** The last lines. */
  readonly last: string[] = [];
  readonly #pipe: OwnedFd;
  readonly #watch: Watch;
  readonly #line: (line: string) => void;
  readonly #chunk = new Uint8Array(CHUNK);
  readonly #decoder = new TextDecoder();
  #partial = "";

  /** Takes over the end of a pipe that is read from. */
  constructor(pipe: OwnedFd, reactor: Reactor, line: (line: string) => void) {
    setNonblocking(pipe.fd, true);
    this.#pipe = pipe;
    this.#line = line;
    this.#watch = reactor.watch(pipe.fd, EPOLLIN, () => this.#read());
  }

  /** Reads what is left, without waiting, and closes the pipe. */
  finish(): void {
    while (this.#read());
    this[Symbol.dispose]();
    if (this.#partial !== "") this.#take("\n");
  }

  /** Closes the pipe. */
  [Symbol.dispose](): void {
    if (this.#pipe.closed) return;
    this.#watch.close();
    this.#pipe.close();
  }

  /** Reads a chunk; false when there is none. */
  #read(): boolean {
    if (this.#pipe.closed) return false;
    const count = readFd(this.#pipe.fd, this.#chunk);
    if (count > 0) {
      const bytes = this.#chunk.subarray(0, count);
      this.#take(this.#decoder.decode(bytes, { stream: true }));
    } else if (count === 0) {
      this[Symbol.dispose]();
    }
    return count > 0;
  }

  #take(text: string): void {
    const lines = (this.#partial + text).split("\n");
    this.#partial = lines.pop()!.slice(0, MAXIMUM_LINE);
    for (const line of lines) {
      const plain = line.replaceAll(COLOURS, "").trimEnd();
      const cut = plain.slice(0, MAXIMUM_LINE);
      if (cut === "") continue;
      this.last.push(cut);
      if (this.last.length > KEPT) this.last.shift();
      this.#line(cut);
    }
  }
}
