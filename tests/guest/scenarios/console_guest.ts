/**
 * A guest behind a console: what the profiles share.
 *
 * @module
 */

import { type CommandOutput, ConsoleError } from "../../support/console.ts";
import { lastLines } from "../../support/process.ts";
import { reachShell } from "../rig/boot_dialogue.ts";
import type { BootDialogueOptions, ConsoleKind } from "../rig/boot_dialogue.ts";
import { RigError } from "../rig/error.ts";
import type { Qemu } from "../rig/qemu.ts";
import type { Guest, System } from "./guest.ts";

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
}

/**
 * What is said instead of powering off: by FreeBSD's kernel without ACPI, by a
 * shell without the command.
 */
const STILL_ON =
  /press any key to reboot|(?:halt|reboot|shutdown|poweroff): not found/i;

/** A guest whose console is driven. */
export class ConsoleGuest implements Guest {
  readonly system: System;
  work = "";
  mountPoint = "";
  /** Its machine. */
  readonly qemu: Qemu;
  /** How its shell was reached. */
  kind: ConsoleKind = "shell";
  readonly #options: ConsoleGuestOptions;
  readonly #cleanUp: () => void;
  readonly #tools = new Map<string, boolean>();

  /** @param cleanUp called when the guest has ended */
  constructor(
    qemu: Qemu,
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
    try {
      this.kind = await reachShell(this.qemu.console, this.#options.dialogue);
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
      throw this.#explained(error);
    }
  }

  async run(
    command: string,
    timeout: number = this.#options.timeout,
  ): Promise<CommandOutput> {
    try {
      return await this.qemu.console.run(command, { timeout });
    } catch (error) {
      throw this.#explained(error);
    }
  }

  async check(
    command: string,
    timeout: number = this.#options.timeout,
  ): Promise<string> {
    try {
      return await this.qemu.console.check(command, { timeout });
    } catch (error) {
      throw this.#explained(error);
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
    await console.sendLine(this.#options.stop(this.kind, "reboot"));
    try {
      await console.expect(this.#options.banner, {
        timeout: this.#options.dialogue.timeout,
      });
    } catch (error) {
      throw this.#explained(error);
    }
    await this.boot();
  }

  async powerOff(): Promise<number> {
    const { console } = this.qemu;
    const { timeout } = this.#options.dialogue;
    await console.sendLine(this.#options.stop(this.kind, "power off"));
    // A kernel that cannot switch the power off says so and waits for a key.
    const halted = console.tryExpect(STILL_ON, { timeout })
      .then((found) => {
        if (found === null) return;
        throw new RigError(
          "guest",
          `${console.name} did not power off, but said "${found.text}"`,
        );
      }, (error) => {
        if (!(error instanceof ConsoleError && error.kind === "closed")) {
          throw error;
        }
      });
    await halted;
    return await this.qemu.wait(timeout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.qemu.close();
    this.#cleanUp();
  }

  /** Adds what QEMU said to the error of a console that ended. */
  #explained(error: unknown): unknown {
    if (!(error instanceof ConsoleError) || this.qemu.messages === "") {
      return error;
    }
    return new ConsoleError(
      error.kind,
      `${error.message}\nQEMU said:\n${lastLines(this.qemu.messages)}`,
      error.transcriptPath,
    );
  }
}
