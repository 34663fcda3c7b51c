/**
 * A guest behind a console: what the profiles share.
 *
 * @module
 */

import { type CommandOutput, ConsoleError } from "../../support/console.ts";
import { lastLines } from "../../support/process.ts";
import { PROMPT, reachShell } from "../rig/boot_dialogue.ts";
import type { BootDialogueOptions, ConsoleKind } from "../rig/boot_dialogue.ts";
import { RigError } from "../rig/error.ts";
import {
  BOOTED_ANEW,
  lastWords,
  REBOOTED,
  troubleIn,
} from "../rig/kernel_trouble.ts";
import type { Qemu } from "../rig/qemu.ts";
import type { Guest, PowerOff, System } from "./guest.ts";

/** How a console guest differs. */
export interface ConsoleGuestOptions {
  readonly system: System;
  /** How a shell is reached, after each boot. */
  readonly dialogue: BootDialogueOptions;
  /** What is typed first in each shell. */
  readonly setup: readonly string[];
  /** Milliseconds for a command that names no limit. */
  readonly timeout: number;
  /**
   * Finds room to write and a folder to mount at, and prints them behind the
   * word ROOM.
   */
  readonly room: string;
  /** Commands that reboot and power off, by how the shell was reached. */
  readonly stop: (
    kind: ConsoleKind,
    how: "reboot" | "power off",
  ) => string;
  /** The line that each boot begins with. */
  readonly banner: RegExp;
  /** Milliseconds from a reboot's command to that line (`dialogue.timeout`). */
  readonly rebootTimeout?: number;
  /** Milliseconds for each of a dying kernel's last words. */
  readonly lastWords: number;
  /** What ends every wait: the kernel's panic. */
  readonly trouble: readonly RegExp[];
}

/** What is said instead of powering off, by a shell without the command. */
const STILL_ON = /(?:halt|reboot|shutdown|poweroff): not found/i;

/** What FreeBSD says when it has halted and cannot switch the power off. */
const HALTED = /The operating system has halted\.|press any key to reboot/i;

/** Milliseconds in which an idle shell answers. */
const ANSWER = 120_000;

/** What of a machine is used. */
export type Machine = Pick<Qemu, "console" | "messages" | "close" | "wait">;

/** A guest whose console is driven. */
export class ConsoleGuest implements Guest {
  readonly system: System;
  work = "";
  mountPoint = "";
  /** Its machine. */
  readonly qemu: Machine;
  /** How its shell was reached. */
  kind: ConsoleKind = "shell";
  readonly #options: ConsoleGuestOptions;
  readonly #cleanUp: () => void;
  readonly #tools = new Map<string, boolean>();
  #lost = false;

  /** @param cleanUp called when the guest has ended */
  constructor(
    qemu: Machine,
    options: ConsoleGuestOptions,
    cleanUp: () => void = () => {},
  ) {
    this.qemu = qemu;
    this.#options = options;
    this.#cleanUp = cleanUp;
    this.system = options.system;
  }

  /** Waits for the shell and makes it ready. */
  async boot(): Promise<void> {
    const { trouble } = this.#options;
    this.qemu.console.configure({ failOn: trouble });
    try {
      this.kind = await reachShell(this.qemu.console, this.#options.dialogue);
      this.qemu.console.configure({ failOn: [...trouble, ...REBOOTED] });
      for (const line of this.#options.setup) await this.run(line);
      const { output } = await this.run(this.#options.room);
      const found = /^ROOM (\S+) (\S+)$/m.exec(output);
      if (found === null) {
        throw new RigError(
          "guest",
          `${this.qemu.console.name} has nowhere to write to: it needs a ` +
            `folder, /tmp say, that a tmpfs can be mounted at; it said: ${output}`,
        );
      }
      [, this.work, this.mountPoint] = found;
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async run(
    command: string,
    timeout: number = this.#options.timeout,
  ): Promise<CommandOutput> {
    try {
      return await this.qemu.console.run(command, { timeout });
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async check(
    command: string,
    timeout: number = this.#options.timeout,
  ): Promise<string> {
    try {
      return await this.qemu.console.check(command, { timeout });
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async until(condition: string, seconds = 120): Promise<void> {
    await this.check(
      `i=0; r=1; while [ $i -lt ${seconds} ]; do if ${condition}; then r=0; ` +
        "break; fi; sleep 1; i=$((i+1)); done; [ $r = 0 ]",
      this.#options.timeout + 10_000 * seconds,
    );
  }

  async has(tool: string): Promise<boolean> {
    let known = this.#tools.get(tool);
    if (known === undefined) {
      known = (await this.run(`command -v ${tool}`)).status === 0;
      this.#tools.set(tool, known);
    }
    return known;
  }

  async reboot(): Promise<void> {
    const { console } = this.qemu;
    const { trouble, banner, dialogue, rebootTimeout } = this.#options;
    console.configure({ failOn: trouble });
    try {
      await console.sendLine(this.#options.stop(this.kind, "reboot"));
      await console.expect(banner, {
        timeout: rebootTimeout ?? dialogue.timeout,
      });
    } catch (error) {
      throw await this.#explained(error);
    }
    await this.boot();
  }

  async powerOff(): Promise<PowerOff> {
    const { console } = this.qemu;
    const { trouble, banner, dialogue, rebootTimeout } = this.#options;
    const timeout = rebootTimeout ?? dialogue.timeout;
    // getty(8) may ask for a name once more on the way down.
    console.configure({ failOn: trouble });
    try {
      await console.sendLine(this.#options.stop(this.kind, "power off"));
      // A kernel that cannot switch the power off says so and waits for a key.
      const found = await console.tryExpect([STILL_ON, HALTED, banner], {
        timeout,
      });
      if (found?.index === 1) {
        await this.qemu.close();
        return { switchedOff: false, code: 0 };
      }
      throw new RigError(
        "guest",
        `${console.name} did not power off` +
          (found === null
            ? ` within ${timeout} ms`
            : `, but said "${found.text}"`) +
          `; its last lines:\n${this.lastLines}`,
      );
    } catch (error) {
      if (!(error instanceof ConsoleError && error.kind === "closed")) {
        throw await this.#explained(error);
      }
    }
    return { switchedOff: true, code: await this.qemu.wait(timeout) };
  }

  async answers(): Promise<boolean> {
    if (this.#lost) return false;
    const { console } = this.qemu;
    try {
      // What hangs is interrupted; the terminal may throw away what follows.
      await console.send("\x03");
      await console.sendLine();
      await console.tryExpect(PROMPT, { timeout: ANSWER });
      return (await this.run("true", ANSWER)).status === 0;
    } catch {
      return false;
    }
  }

  get lastLines(): string {
    return lastLines(this.qemu.console.output, 25);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.qemu.close();
    this.#cleanUp();
  }

  /**
   * Says what a kernel's end is, with its last words, and what QEMU said of a
   * console that ended.
   */
  async #explained(error: unknown): Promise<unknown> {
    if (!(error instanceof ConsoleError)) return error;
    const { console, messages } = this.qemu;
    let { message, transcriptPath } = error;
    if (error.kind === "closed") this.#lost = true;
    if (error.kind === "failed" && !this.#lost) {
      this.#lost = true;
      if (troubleIn(lastLines(console.output, 30)) !== BOOTED_ANEW) {
        await lastWords(console, this.#options.lastWords);
      }
      transcriptPath = console.saveTranscript();
      const trouble = troubleIn(lastLines(console.output, 100)) ?? message;
      message = `${console.name}: ${trouble}; transcript in ` +
        `"${transcriptPath}"; its last lines:\n${this.lastLines}`;
    }
    const ofQemu = error.kind === "closed" || error.kind === "timeout";
    if (ofQemu && messages !== "") {
      message += `\nQEMU said:\n${lastLines(messages)}`;
    }
    return new ConsoleError(error.kind, message, transcriptPath);
  }
}
