/**
 * The balloon that is measured: a process, asked over its standard streams.
 *
 * @module
 */

import { withDeadline } from "../support/deadline.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import type { BalloonStatus } from "../protocol/balloon.ts";
import { BACKEND_CPU, pinned } from "./backends.ts";

const SERVER = new URL("./balloon_server.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** A balloon in a process of its own. */
export class BalloonProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #text = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#writer = child.stdin!.getWriter();
    this.#reader = child.stdoutStream!.getReader();
  }

  /**
   * Starts it; it listens when the promise resolves.
   *
   * @param alone on the CPU of back-ends, the caller on another one
   */
  static async start(
    socket: string,
    options: Readonly<Record<string, unknown>>,
    alone = false,
  ): Promise<BalloonProcess> {
    const [program, prefix] = alone
      ? pinned(BACKEND_CPU, Deno.execPath())
      : [Deno.execPath(), []];
    const child = ChildProcess.start(program, {
      name: "balloon",
      args: [
        ...prefix,
        ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, SERVER],
        ...[socket, JSON.stringify(options)],
      ],
      stdin: "piped",
      streamStdout: true,
    });
    try {
      await waitForListener(socket, child);
      return new BalloonProcess(child);
    } catch (error) {
      await child.stop();
      throw error;
    }
  }

  /** Its process ID. */
  get pid(): number {
    return this.#child.pid;
  }

  /** A command of the device. */
  async command(
    name: string,
    parameters: Readonly<Record<string, unknown>> = {},
  ): Promise<BalloonStatus> {
    const line = JSON.stringify({ name, parameters }) + "\n";
    await this.#writer.write(new TextEncoder().encode(line));
    return JSON.parse(await withDeadline(this.#line(), 10_000, name));
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#reader.read();
      if (done) {
        throw new Error(`The balloon ended: ${this.#child.stderr.text}`);
      }
      this.#text += new TextDecoder().decode(value);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    this.#reader.releaseLock();
    await this.#child.stop("SIGTERM");
  }
}

/**
 * CPU time of the threads of a process in seconds, to the nanosecond.
 *
 * @param wanted which threads, by name
 */
export function threadSeconds(
  pid: number,
  wanted: (name: string) => boolean = () => true,
): number {
  let nanoseconds = 0;
  for (const { name: id } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const task = `/proc/${pid}/task/${id}`;
    if (!wanted(Deno.readTextFileSync(`${task}/comm`).trim())) continue;
    const [running] = Deno.readTextFileSync(`${task}/schedstat`).split(" ");
    nanoseconds += Number(running);
  }
  return nanoseconds / 1e9;
}
