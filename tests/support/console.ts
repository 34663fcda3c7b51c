/**
 * A console driver: waits for what a program prints and types answers, as a
 * person at a terminal would. It drives a child's stdio or a Unix socket:
 * boot loaders, firmware shells, guests' login shells.
 *
 * Theory of operation: everything that arrives goes, as it is, into the
 * transcript and, freed of terminal control sequences, into an
 * {@linkcode OutputBuffer}, in which `expect` waits for patterns. Each wait is
 * bounded. A wait that fails writes the transcript, with what was typed
 * marked, to a file and names it in the error. Patterns in `failOn` (a
 * kernel's panic message) end any wait at once, so that a crashed guest does
 * not cost the whole limit.
 *
 * `run` types a command at a shell's prompt between two marks with a number
 * of their own. The marks are typed with quotes inside (`@@BEG''IN-7`), so
 * that the echo of the line is never taken for the output of it. A kernel's
 * message may come in the middle of a mark: with `askAgain` the mark is typed
 * once more where it does not come, into a shell that reads it after the command.
 *
 * @module
 */

import { DeadlineError, withDeadline } from "./deadline.ts";
import { type Match, OutputBuffer, type Pattern } from "./output_buffer.ts";
import { ChildProcess, lastLines, type ProcessOptions } from "./process.ts";
import { TerminalFilter } from "./terminal_filter.ts";

/** Why a console disappointed. */
export type ConsoleErrorKind = "timeout" | "closed" | "failed" | "command";

/** A failure on a console. */
export class ConsoleError extends Error {
  /**
   * What class of failure this is; stable: the limit ran out, the console
   * ended, a `failOn` pattern appeared, or a command could not be typed or
   * ended with another status than 0.
   */
  readonly kind: ConsoleErrorKind;
  /** The file that holds the transcript, where one was written. */
  readonly transcriptPath: string | null;

  /**
   * @param kind what class of failure this is
   * @param message what was waited for and what came
   * @param transcriptPath the file that holds the transcript
   */
  constructor(
    kind: ConsoleErrorKind,
    message: string,
    transcriptPath: string | null = null,
  ) {
    super(message);
    this.name = "ConsoleError";
    this.kind = kind;
    this.transcriptPath = transcriptPath;
  }
}

/** How a console behaves. */
export interface ConsoleOptions {
  /** A word for messages and for the transcript's file name. */
  name?: string;
  /** The limit of a wait in milliseconds where it names none (30,000). */
  timeout?: number;
  /** The shell's prompt, for `run` and `waitForPrompt` (`/[#$] $/`). */
  prompt?: Pattern;
  /** What `sendLine` ends a line with (`"\n"`; firmware wants `"\r"`). */
  newline?: string;
  /** Milliseconds between two typed characters (0). */
  characterDelay?: number;
  /** The shell's word for the last exit status (`"$?"`; csh `"$status"`). */
  statusWord?: string;
  /**
   * Milliseconds without its end after which `run` has the shell (a Bourne
   * shell) say again whether a command has ended (never).
   */
  askAgain?: number;
  /** Patterns that end every wait with an error. */
  failOn?: readonly Pattern[];
  /** Where transcripts are written (the system's temporary directory). */
  transcriptDirectory?: string;
  /** Called with each new piece of plain output. */
  onOutput?: (text: string) => void;
}

/** Limits of one wait. */
export interface ExpectOptions {
  /** Milliseconds. */
  timeout?: number;
}

/** What a command at a shell's prompt left. */
export interface CommandOutput {
  /** What it printed, without the last line end. */
  readonly output: string;
  /** Its exit status. */
  readonly status: number;
}

/** The two directions of a console. */
export interface ConsoleStreams {
  /** What the other side prints. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What is typed; `null` for a console without input. */
  readonly writable: WritableStream<Uint8Array> | null;
}

const DEFAULT_TIMEOUT = 30_000;
const DEFAULT_PROMPT = /[#$] $/;

/** The longest line that common line editors take whole. */
const LONGEST_LINE = 1_000;

/** A console that is being driven. */
export class Console implements AsyncDisposable {
  /** A word for messages. */
  readonly name: string;
  /** Resolves when the other side has ended its output. */
  readonly closed: Promise<void>;
  #options: ConsoleOptions;
  #buffer = new OutputBuffer();
  #transcript: string[] = [];
  #reader: ReadableStreamDefaultReader<Uint8Array>;
  #writer: WritableStreamDefaultWriter<Uint8Array> | null;
  #child: ChildProcess | null = null;
  #commands = 0;

  /** Drives `streams`; see also `spawn` and `connect`. */
  constructor(streams: ConsoleStreams, options: ConsoleOptions = {}) {
    this.name = options.name ?? "console";
    this.#options = options;
    this.#reader = streams.readable.getReader();
    this.#writer = streams.writable?.getWriter() ?? null;
    // A reader that has gone away is seen by the next write.
    this.#writer?.closed.catch(() => {});
    this.closed = this.#read();
  }

  /** Starts `command` and drives its stdio; stderr is only kept. */
  static spawn(
    command: string,
    options: ConsoleOptions & Omit<ProcessOptions, "stdin" | "name"> = {},
  ): Console {
    return Console.over(
      ChildProcess.start(command, {
        ...options,
        stdin: "piped",
        streamStdout: true,
      }),
      options,
    );
  }

  /** Drives a child started with `streamStdout`, and owns it from here on. */
  static over(child: ChildProcess, options: ConsoleOptions = {}): Console {
    if (child.stdoutStream === null) {
      throw new TypeError(`${child.name} was started without streamStdout`);
    }
    const console = new Console(
      { readable: child.stdoutStream, writable: child.stdin },
      { name: child.name, ...options },
    );
    console.#child = child;
    return console;
  }

  /** Connects to a Unix socket and drives it. */
  static async connect(
    path: string,
    options: ConsoleOptions = {},
  ): Promise<Console> {
    const connection = await Deno.connect({ transport: "unix", path });
    return new Console(connection, options);
  }

  /** The child, of a console made by `spawn` or `over`. */
  get child(): ChildProcess | null {
    return this.#child;
  }

  /** All plain output so far. */
  get output(): string {
    return this.#buffer.text;
  }

  /** Everything as it came, with what was typed in `⟦…⟧`. */
  get transcript(): string {
    return this.#transcript.join("");
  }

  /** The options, with changes for a new phase (another prompt, say). */
  configure(options: ConsoleOptions): void {
    this.#options = { ...this.#options, ...options };
  }

  /**
   * Waits for a pattern, or for the first of several, in what comes after
   * the previous match. A pattern matches as soon as the text so far lets it:
   * one that ends in `.*` may match half a line.
   *
   * @throws {ConsoleError} `timeout`, `closed` (the console ended) or
   * `failed` (a `failOn` pattern came first), with the transcript's path
   */
  async expect(
    patterns: Pattern | readonly Pattern[],
    options: ExpectOptions = {},
  ): Promise<Match> {
    const found = await this.tryExpect(patterns, options);
    if (found !== null) return found;
    throw this.#failure(
      "timeout",
      `waited ${this.#limit(options)} ms for ${describeAll(patterns)}`,
    );
  }

  /**
   * As `expect`, for what need not come.
   *
   * @returns the match, or `null` when the limit ran out
   * @throws {ConsoleError} `closed` or `failed`
   */
  async tryExpect(
    patterns: Pattern | readonly Pattern[],
    options: ExpectOptions = {},
  ): Promise<Match | null> {
    const wanted = listOf(patterns);
    const failOn = this.#options.failOn ?? [];
    const found = await this.#buffer.wait(
      [...wanted, ...failOn],
      this.#limit(options),
    );
    if (found === "timeout") return null;
    const names = describeAll(patterns);
    if (found === "closed") {
      throw this.#failure("closed", `ended before ${names}`);
    }
    if (found.index >= wanted.length) {
      throw this.#failure(
        "failed",
        `printed ${JSON.stringify(found.text.trim())} before ${names}`,
        found.before + found.text,
      );
    }
    return found;
  }

  /** Waits for the shell's prompt. */
  waitForPrompt(options: ExpectOptions = {}): Promise<Match> {
    return this.expect(this.#options.prompt ?? DEFAULT_PROMPT, options);
  }

  /** Types `text` as it is, at the console's pace. */
  async send(text: string): Promise<void> {
    const writer = this.#writer;
    if (writer === null) {
      throw new ConsoleError("command", `${this.name} takes no input`);
    }
    this.#transcript.push(`⟦${JSON.stringify(text).slice(1, -1)}⟧`);
    const delay = this.#options.characterDelay ?? 0;
    const pieces = delay > 0 ? Array.from(text) : [text];
    const encoder = new TextEncoder();
    try {
      for (const piece of pieces) {
        await withDeadline(
          writer.write(encoder.encode(piece)),
          this.#options.timeout ?? DEFAULT_TIMEOUT,
          `${this.name} to take input`,
        );
        if (delay > 0) {
          await new Promise((resolve) => setTimeout(resolve, delay));
        }
      }
    } catch (error) {
      throw this.#failure(
        error instanceof DeadlineError ? "timeout" : "closed",
        `did not take ${JSON.stringify(text)}: ${(error as Error).message}`,
      );
    }
  }

  /** Types `text` and the end of a line. */
  sendLine(text = ""): Promise<void> {
    return this.send(text + (this.#options.newline ?? "\n"));
  }

  /**
   * Runs one line of shell at the prompt and waits for the next prompt. The
   * prompt must have been seen (`waitForPrompt`, or a `run` before). It works
   * in sh and csh; the line may end with `&`.
   *
   * @throws {ConsoleError} as `expect`; `command` for a line that holds a
   * line end or is too long for a line editor
   */
  async run(
    command: string,
    options: ExpectOptions = {},
  ): Promise<CommandOutput> {
    const number = ++this.#commands;
    const join = /&\s*$/.test(command) ? " " : "; ";
    const { askAgain, statusWord = "$?" } = this.#options;
    // Asked again, the shell has its status in a variable.
    const status = askAgain === undefined ? statusWord : "$r_";
    const keep = askAgain === undefined ? "" : "r_=$?; ";
    const end = `echo @@EN''D-${number} ${status}`;
    const line = `echo @@BEG''IN-${number}; ${command}${join}${keep}${end}`;
    if (line.length > LONGEST_LINE || command.includes("\n")) {
      throw new ConsoleError(
        "command",
        `Cannot type ${JSON.stringify(command.slice(0, 60))} into ` +
          `${this.name}: it must be one line of at most ${LONGEST_LINE} ` +
          `characters with its marks, this one has ${line.length}`,
      );
    }
    await this.sendLine(line);
    const began = `@@BEGIN-${number}\n`;
    const ended = new RegExp(`@@END-${number} (\\d+)\\n`);
    let found = await this.#patiently([began, ended], end, options);
    if (found.index === 0) found = await this.#patiently([ended], end, options);
    await this.#patiently(
      [this.#options.prompt ?? DEFAULT_PROMPT],
      "",
      options,
    );
    return {
      output: found.before.replace(/\n$/, ""),
      status: Number(found.groups[1]),
    };
  }

  /** As `expect`; with `askAgain`, `line` is typed each time that has passed. */
  async #patiently(
    patterns: readonly Pattern[],
    line: string,
    options: ExpectOptions,
  ): Promise<Match> {
    const { askAgain = Infinity } = this.#options;
    let left = this.#limit(options);
    for (; left > askAgain; left -= askAgain) {
      const found = await this.tryExpect(patterns, { timeout: askAgain });
      if (found !== null) return found;
      await this.sendLine(line);
    }
    const found = await this.tryExpect(patterns, { timeout: left });
    if (found !== null) return found;
    throw this.#failure(
      "timeout",
      `waited ${this.#limit(options)} ms for ${describeAll(patterns)}`,
    );
  }

  /**
   * As `run`, for a command that must end with status 0.
   *
   * @returns what it printed
   * @throws {ConsoleError} `command` for another status
   */
  async check(command: string, options: ExpectOptions = {}): Promise<string> {
    const { output, status } = await this.run(command, options);
    if (status !== 0) {
      throw this.#failure(
        "command",
        `ran ${JSON.stringify(command)}, which ended with status ${status}`,
        output,
      );
    }
    return output;
  }

  /**
   * Writes the transcript to a new file.
   *
   * @returns its path
   */
  saveTranscript(): string {
    const directory = this.#options.transcriptDirectory;
    if (directory !== undefined) Deno.mkdirSync(directory, { recursive: true });
    const path = Deno.makeTempFileSync({
      dir: directory,
      prefix: `vhostd-${this.name.replaceAll(/[^\w.-]/g, "_")}-`,
      suffix: ".log",
    });
    Deno.writeTextFileSync(path, this.transcript);
    return path;
  }

  /** Ends input and output, and stops the child that it owns. */
  async close(): Promise<void> {
    await this.#writer?.abort().catch(() => {});
    await this.#child?.stop();
    await this.#reader.cancel().catch(() => {});
    await this.closed;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    const filter = new TerminalFilter();
    try {
      while (true) {
        const { done, value } = await this.#reader.read();
        if (done) break;
        const text = decoder.decode(value, { stream: true });
        this.#transcript.push(text);
        const plain = filter.push(text);
        this.#buffer.append(plain);
        if (plain !== "") this.#options.onOutput?.(plain);
      }
    } catch (error) {
      // The other side closed its socket with input unread: also an end.
      this.#transcript.push(`⟦end: ${(error as Error).message}⟧`);
    } finally {
      this.#buffer.end();
    }
  }

  #limit(options: ExpectOptions): number {
    return options.timeout ?? this.#options.timeout ?? DEFAULT_TIMEOUT;
  }

  #failure(
    kind: ConsoleErrorKind,
    what: string,
    context = this.#buffer.pending || this.#buffer.text,
  ): ConsoleError {
    const path = this.saveTranscript();
    return new ConsoleError(
      kind,
      `${this.name} ${what}; transcript in "${path}"; last lines:\n` +
        lastLines(context),
      path,
    );
  }
}

function listOf(patterns: Pattern | readonly Pattern[]): Pattern[] {
  return patterns instanceof RegExp || typeof patterns === "string"
    ? [patterns]
    : [...patterns];
}

function describeAll(patterns: Pattern | readonly Pattern[]): string {
  return listOf(patterns).map(describe).join(" or ");
}

function describe(pattern: Pattern): string {
  return pattern instanceof RegExp ? String(pattern) : JSON.stringify(pattern);
}
