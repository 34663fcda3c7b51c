/**
 * Child processes of tests: started with their output collected, ended by
 * their id, never left behind.
 *
 * Theory of operation: a {@linkcode ChildProcess} reads stdout and stderr of
 * the child all the time (a child never blocks on a full pipe) into two
 * {@linkcode OutputBuffer}s. `stop` asks with a signal, waits a bounded time,
 * then kills. Disposing it stops it, so `await using` is the normal way to
 * hold one.
 *
 * @module
 */

import { DeadlineError, waitUntil, withDeadline } from "./deadline.ts";
import { type Match, OutputBuffer, type Pattern } from "./output_buffer.ts";

/**
 * How long (ms) the output of an ended process is still read: a grandchild
 * that inherited the pipe may keep it open.
 */
const INHERITED_PIPE = 1_000;

/** Why a child process disappointed. */
export type ProcessErrorKind = "not-found" | "failed" | "timeout" | "ended";

/** A failure of a child process. */
export class ProcessError extends Error {
  /** What class of failure this is; stable. */
  readonly kind: ProcessErrorKind;

  /**
   * @param kind what class of failure this is
   * @param message which program, what it did
   */
  constructor(kind: ProcessErrorKind, message: string) {
    super(message);
    this.name = "ProcessError";
    this.kind = kind;
  }
}

/** How a child process is started. */
export interface ProcessOptions {
  /** The arguments. */
  args?: readonly string[];
  /** Variables added to the environment. */
  env?: Record<string, string>;
  /** Start from an empty environment. */
  clearEnv?: boolean;
  /** The working directory. */
  cwd?: string;
  /** `"piped"` to write to it; the default is `"null"`. */
  stdin?: "piped" | "null";
  /** Leave stdout to the caller, as `stdoutStream`. */
  streamStdout?: boolean;
  /** What messages call it; the command when absent. */
  name?: string;
}

/** The last lines of a text, for error messages. */
export function lastLines(text: string, count = 15): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}

/** A running child process. */
export class ChildProcess implements AsyncDisposable {
  /** What messages call it. */
  readonly name: string;
  /** The process id. */
  readonly pid: number;
  /**
   * Resolves when the process has ended and its output has been read, as far
   * as it ends.
   */
  readonly status: Promise<Deno.CommandStatus>;
  /** What it writes to stdout. */
  readonly stdout: OutputBuffer = new OutputBuffer();
  /** What it writes to stderr. */
  readonly stderr: OutputBuffer = new OutputBuffer();
  /** Its stdin, with `stdin: "piped"`. */
  readonly stdin: WritableStream<Uint8Array> | null;
  /** Its stdout, with `streamStdout`. */
  readonly stdoutStream: ReadableStream<Uint8Array> | null;
  #child: Deno.ChildProcess;
  #ended = false;

  private constructor(child: Deno.ChildProcess, options: ProcessOptions) {
    this.#child = child;
    this.name = options.name ?? "child";
    this.pid = child.pid;
    this.stdin = options.stdin === "piped" ? child.stdin : null;
    this.stdoutStream = options.streamStdout ? child.stdout : null;
    const drains = [drain(child.stderr, this.stderr)];
    if (!options.streamStdout) drains.push(drain(child.stdout, this.stdout));
    this.status = this.#finish(drains);
  }

  /**
   * Starts `command`.
   *
   * @throws {ProcessError} `not-found` when it does not exist
   */
  static start(command: string, options: ProcessOptions = {}): ChildProcess {
    const name = options.name ?? command;
    try {
      const child = new Deno.Command(command, {
        args: [...options.args ?? []],
        env: options.env,
        clearEnv: options.clearEnv,
        cwd: options.cwd,
        stdin: options.stdin ?? "null",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      return new ChildProcess(child, { ...options, name });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new ProcessError(
        "not-found",
        `Cannot start ${name}: no "${command}"`,
      );
    }
  }

  /** True when the process has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Sends a signal; a process that has already ended gets none. */
  signal(signal: Deno.Signal): void {
    if (this.#ended) return;
    try {
      this.#child.kill(signal);
    } catch (error) {
      // It ended between the look and the signal.
      if (
        !(error instanceof TypeError) &&
        !(error instanceof Deno.errors.NotFound)
      ) throw error;
    }
  }

  /**
   * Waits for the process to end by itself.
   *
   * @throws {DeadlineError} after `timeout` milliseconds
   */
  wait(timeout: number): Promise<Deno.CommandStatus> {
    return withDeadline(this.status, timeout, `the end of ${this.name}`);
  }

  /**
   * Ends the process: `signal`, then SIGKILL after `timeout` milliseconds.
   *
   * @returns how it ended
   */
  async stop(
    signal: Deno.Signal = "SIGTERM",
    timeout = 5_000,
  ): Promise<Deno.CommandStatus> {
    this.signal(signal);
    try {
      return await this.wait(timeout);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      this.signal("SIGKILL");
      return await this.wait(timeout);
    }
  }

  /**
   * Waits for `pattern` in what the process writes.
   *
   * @param from which of its outputs (`"stderr"` when absent)
   * @throws {ProcessError} `timeout` or `ended`, with the output's end
   */
  async expect(
    pattern: Pattern,
    timeout = 10_000,
    from: "stdout" | "stderr" = "stderr",
  ): Promise<Match> {
    const buffer = this[from];
    const found = await buffer.wait([pattern], timeout);
    if (typeof found !== "string") return found;
    const why = found === "timeout"
      ? `did not write ${pattern} within ${timeout} ms`
      : `ended without writing ${pattern}`;
    throw new ProcessError(
      found === "timeout" ? "timeout" : "ended",
      `${this.name} ${why}; its last lines:\n${lastLines(buffer.text)}`,
    );
  }

  async #finish(drains: readonly Drain[]): Promise<Deno.CommandStatus> {
    const status = await this.#child.status;
    this.#ended = true;
    try {
      const ends = drains.map((each) => each.done);
      await withDeadline(Promise.all(ends), INHERITED_PIPE, "its output");
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      await Promise.all(drains.map((each) => each.cancel()));
    }
    return status;
  }

  /** Stops the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** A stream that is being read into a buffer. */
interface Drain {
  readonly done: Promise<void>;
  cancel(): Promise<void>;
}

function drain(
  stream: ReadableStream<Uint8Array>,
  into: OutputBuffer,
): Drain {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const read = async () => {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      into.append(decoder.decode(value, { stream: true }));
    }
    into.end();
  };
  return { done: read(), cancel: () => reader.cancel() };
}

/** What a finished command left. */
export interface CommandResult {
  /** The exit code; 128 + n for signal n. */
  readonly code: number;
  /** All of stdout. */
  readonly stdout: string;
  /** All of stderr. */
  readonly stderr: string;
}

/** How {@linkcode runCommand} runs. */
export interface RunOptions extends ProcessOptions {
  /** The limit in milliseconds (30,000 when absent). */
  timeout?: number;
  /** Return other exit codes than 0 too, instead of throwing. */
  anyCode?: boolean;
}

/**
 * Runs a command to its end.
 *
 * @throws {ProcessError} `not-found`; `failed` for an exit code other than 0;
 * `timeout` after the limit, when the process has been killed
 */
export async function runCommand(
  command: string,
  options: RunOptions = {},
): Promise<CommandResult> {
  await using child = ChildProcess.start(command, options);
  const timeout = options.timeout ?? 30_000;
  let status: Deno.CommandStatus;
  try {
    status = await child.wait(timeout);
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
    child.signal("SIGKILL");
    throw new ProcessError(
      "timeout",
      `${child.name} took more than ${timeout} ms; its last lines:\n` +
        lastLines(child.stdout.text + child.stderr.text),
    );
  }
  if (status.code !== 0 && !options.anyCode) {
    throw new ProcessError(
      "failed",
      `${child.name} ended with code ${status.code}:\n` +
        lastLines(child.stderr.text || child.stdout.text),
    );
  }
  return {
    code: status.code,
    stdout: child.stdout.text,
    stderr: child.stderr.text,
  };
}

/**
 * Waits until a process listens on the Unix socket `path`, without
 * connecting to it: Linux lists listening sockets in /proc/net/unix with the
 * flag 0x10000 (`__SO_ACCEPTCON`).
 *
 * @param path the path exactly as the server bound it
 * @param server when given, its end ends the wait
 * @throws {ProcessError} `ended` when `server` ends first
 * @throws {DeadlineError} after `timeout` milliseconds
 */
export async function waitForListener(
  path: string,
  server?: ChildProcess,
  timeout = 10_000,
): Promise<void> {
  await waitUntil(async () => {
    if (server?.ended) {
      throw new ProcessError(
        "ended",
        `${server.name} ended before it listened on "${path}":\n` +
          lastLines(server.stderr.text),
      );
    }
    const table = await Deno.readTextFile("/proc/net/unix");
    return table.split("\n").some((line) => {
      // Num RefCount Protocol Flags Type St Inode Path
      const fields = line.trim().split(/\s+/);
      return fields[7] === path && (parseInt(fields[3], 16) & 0x10000) !== 0;
    });
  }, { what: `a listener on "${path}"`, timeout });
}
