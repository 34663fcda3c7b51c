/**
 * The way from a machine that was just started to a shell that takes commands,
 * over its console.
 *
 * Theory of operation: a console may ask many things on the way: a boot loader
 * counts down, init(8) asks for a shell, getty(8) for a name, or a shell is just
 * there. {@linkcode reachShell} answers each question as it comes and asks, at
 * anything that looks like a prompt, whether it is a shell: it types a line whose
 * output no echo can imitate, and which tells csh from sh. A prompt that is not a
 * shell's costs a moment. Where nothing comes for a while, a line end is typed:
 * a kernel's message may have been printed behind the prompt. In the end the
 * shell is sh with a prompt of ours, no echo and no line editor.
 *
 * Texts are those of FreeBSD's `init.c` (`SHREQUEST`), `vfs_mountroot.c`,
 * getty(8), login(1), loader(8) and ddb(4).
 *
 * @module
 */

import type { Console } from "../../support/console.ts";
import { lastLines } from "../../support/process.ts";
import type { Pattern } from "../../support/output_buffer.ts";
import { RigError } from "./error.ts";

/** What a console asked for before it gave a shell. */
export type ConsoleKind = "login" | "single-user" | "shell";

/** How to reach a shell. */
export interface BootDialogueOptions {
  /** Milliseconds for the whole way. */
  readonly timeout: number;
  /** Milliseconds of silence after which a line end is typed (30,000). */
  readonly quiet?: number;
  /** Milliseconds for a shell to answer (20,000). */
  readonly answer?: number;
  /** Who logs in (`root`). */
  readonly user?: string;
  /** The password, should one be asked for. */
  readonly password?: string;
  /** Milliseconds without a word after which it is given up (`timeout`). */
  readonly silence?: number;
  /** Where the root file system may be, for a kernel that asks; in order. */
  readonly roots?: readonly string[];
  /**
   * Boot with a serial console at the boot loader's menu, for an image that
   * would use a screen.
   */
  readonly loader?: boolean;
}

/** Where commands are looked for: a minimal system has /rescue alone. */
export const SEARCH_PATH =
  "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/rescue";

/** The prompt that {@linkcode reachShell} leaves. */
export const PROMPT = /^guest# $/m;

type Question =
  | "loader-menu"
  | "loader-prompt"
  | "choose-shell"
  | "login"
  | "password"
  | "refused"
  | "no-root"
  | "debugger"
  | "prompt";

/** Of two at one place the first wins. */
const QUESTIONS: readonly (readonly [Question, Pattern])[] = [
  ["loader-menu", /(?:Autoboot in \d+|Hit \[Enter\] to boot)/],
  ["loader-prompt", /\bOK $/],
  [
    "choose-shell",
    /Enter (?:full )?pathname of shell or RETURN for [^:\n]*: ?/,
  ],
  ["refused", /Login incorrect/],
  ["password", /Password: ?$/],
  ["login", /\blogin: $/],
  ["no-root", /mountroot> $/],
  ["debugger", /\bdb> ?$/],
  ["prompt", /[#$%] $/],
];

/** The last line of a kernel that looks for its root file system. */
const MOUNTING =
  /\n[^\n]*(?:Trying to mount root from |mountroot: waiting for device |; retrying for )[^\n]*\n*$/;

/** How often the same question is answered before it counts as a loop. */
const LIMIT = 6;

/**
 * Answers what the console asks until a shell takes commands.
 *
 * @returns what the console asked for
 * @throws {RigError} `guest` when the console asks for something that there is
 * no answer to, with what would be right
 * @throws {ConsoleError} `timeout`, `closed`, `failed`
 */
export async function reachShell(
  console: Console,
  options: BootDialogueOptions,
): Promise<ConsoleKind> {
  const dialogue = new Dialogue(console, options);
  await dialogue.run();
  return dialogue.kind;
}

class Dialogue {
  kind: ConsoleKind = "shell";
  readonly #console: Console;
  readonly #options: BootDialogueOptions;
  readonly #end: number;
  readonly #asked = new Map<Question, number>();
  #probes = 0;
  #loaderStopped = false;

  constructor(console: Console, options: BootDialogueOptions) {
    this.#console = console;
    this.#options = options;
    this.#end = performance.now() + options.timeout;
  }

  async run(): Promise<void> {
    while (!await this.#answer(await this.#next()));
    await this.#settle();
  }

  /** Milliseconds that are left, at most `most`. */
  #left(most = Infinity): number {
    return Math.max(1, Math.min(most, this.#end - performance.now()));
  }

  async #next(): Promise<Question> {
    const { quiet = 30_000 } = this.#options;
    const patterns = QUESTIONS.map(([, pattern]) => pattern);
    const { silence = Infinity } = this.#options;
    let heard = this.#console.output.length, since = performance.now();
    while (performance.now() < this.#end) {
      const timeout = this.#left(quiet);
      const found = await this.#console.tryExpect(patterns, { timeout });
      if (found !== null) return QUESTIONS[found.index][0];
      if (this.#console.output.length > heard) {
        heard = this.#console.output.length;
        since = performance.now();
      } else if (performance.now() - since >= silence) {
        this.#fail(
          `not a word for ${silence} ms; its last lines:\n` +
            lastLines(this.#console.output) + "\n",
        );
      }
      // To the kernel that waits for a root device it would be an answer.
      if (MOUNTING.test(this.#console.output)) continue;
      await this.#console.sendLine();
    }
    this.#fail(
      `no login prompt, question for a shell, or shell within ` +
        `${this.#options.timeout} ms; its last lines:\n` +
        lastLines(this.#console.output) + "\n",
    );
  }

  /** True when there is a shell. */
  async #answer(question: Question): Promise<boolean> {
    const count = (this.#asked.get(question) ?? 0) + 1;
    this.#asked.set(question, count);
    const { user = "root", password } = this.#options;
    switch (question) {
      case "loader-menu":
        // Any key but Enter stops the countdown; 3 leaves the menu as well.
        if (this.#options.loader && !this.#loaderStopped) {
          this.#loaderStopped = true;
          await this.#console.send("3");
        }
        return false;
      case "loader-prompt":
        // With console=vidconsole -h makes the serial port the second console
        // (bi_getboothowto): the kernel's messages and getty(8) are there.
        if (this.#loaderStopped) await this.#console.send("boot -h\r");
        if (count > LIMIT) {
          this.#fail(
            "the boot loader does not boot, but asks for a command; its last " +
              `lines:\n${lastLines(this.#console.output)}\n`,
          );
        }
        return false;
      case "choose-shell":
        if (count > LIMIT) {
          this.#fail("init(8) asks for a shell again and again");
        }
        // Where there is no such shell, init(8) takes /bin/sh.
        this.kind = "single-user";
        await this.#console.sendLine("/rescue/sh");
        return false;
      case "login":
        if (count > LIMIT) this.#fail(`"${user}" cannot log in`);
        this.kind = "login";
        await this.#console.sendLine(user);
        return false;
      case "password":
        if (this.kind === "login" && password === undefined) {
          this.#fail(
            `"${user}" has a password: FREEBSD_PASSWORD tells it, where an ` +
              "image does not leave it empty, as the official ones do",
          );
        }
        await this.#console.sendLine(password ?? "");
        return false;
      case "refused":
        if (password !== undefined && count > 1) {
          this.#fail(`the password of "${user}" is wrong`);
        }
        return false;
      case "no-root":
        await this.#tellRoot(count);
        return false;
      case "debugger":
        this.#fail("the kernel is in its debugger");
        break;
      case "prompt":
        return await this.#isShell();
    }
  }

  /**
   * Names the next place where the root file system may be; asks the kernel for
   * its disks when there is none left.
   */
  async #tellRoot(count: number): Promise<void> {
    const root = this.#options.roots?.[count - 1];
    if (root !== undefined) {
      await this.#console.sendLine(root);
      return;
    }
    await this.#console.sendLine("?");
    const list = await this.#console.tryExpect(/mountroot> $/, {
      timeout: this.#left(this.#options.answer ?? 20_000),
    });
    this.#fail(
      "the kernel found no root file system; " +
        "vfs.root.mountfrom=ufs:/dev/vtbd0, say, in FREEBSD_KERNEL_ARGS " +
        `tells it where; its last lines:\n` +
        lastLines((list?.before ?? this.#console.output).trim()) + "\n",
    );
  }

  /** Whether a shell answers; what it is told leads to sh. */
  async #isShell(): Promise<boolean> {
    const mark = `${++this.#probes}`;
    // csh has the variable `version`; in sh, $? is 0 and a word follows.
    await this.#console.sendLine(`echo @@SHE''LL-${mark}-$?version-`);
    const found = await this.#console.tryExpect(
      new RegExp(`@@SHELL-${mark}-(\\w*)-\n`),
      { timeout: this.#left(this.#options.answer ?? 20_000) },
    );
    if (found === null) return false;
    if (found.groups[1] !== "1") return true;
    await this.#console.sendLine("exec /bin/sh");
    await this.#console.expect(/[#$] $/, { timeout: this.#left(60_000) });
    return true;
  }

  /** A prompt of ours, no echo, no line editor, and commands are found. */
  async #settle(): Promise<void> {
    // busybox has tools as functions beside a path of its own, and its shell
    // ends with a job when there is no echo: it stays as it is.
    const unlessLinux = (line: string) =>
      `case "$(uname -s 2>/dev/null)" in Linux) ;; *) ${line};; esac`;
    const lines = [
      unlessLinux("(set +o emacs) 2>/dev/null && set +o emacs"),
      unlessLinux("(set +o vi) 2>/dev/null && set +o vi"),
      unlessLinux(`PATH=${SEARCH_PATH}; export PATH; stty -echo 2>/dev/null`),
      "unset ENV; PS2=; PS1='gue''st# '",
    ];
    for (const [i, line] of lines.entries()) {
      await this.#console.sendLine(`${line}; echo @@SE''T-${i}`);
      await this.#console.expect(`@@SET-${i}\n`, {
        timeout: this.#left(60_000),
      });
    }
    this.#console.configure({ prompt: PROMPT });
    await this.#console.waitForPrompt({ timeout: this.#left(60_000) });
  }

  #fail(what: string): never {
    throw new RigError(
      "guest",
      `${this.#console.name}: ${what}; transcript in ` +
        `"${this.#console.saveTranscript()}"`,
    );
  }
}
