/**
 * A Linux guest: Debian's kernel with busybox and disk tools in an initial
 * RAM disk. It runs a script and powers off, or gives a shell on its console
 * to tests that act while it runs.
 *
 * A script is busybox sh with `set -eu -o pipefail`, and has: `say KEY
 * VALUE…` (reported as `values.KEY`), `check NAME COMMAND…` (runs the
 * command; the script fails when it does), `fail MESSAGE`.
 *
 * @module
 */

import { ConsoleError, type ConsoleOptions } from "../../support/console.ts";
import { lastLines } from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { RigError } from "./error.ts";
import {
  type GuestImage,
  guestImage,
  initialRamDisk,
  type LinuxVersion,
} from "./guest_image.ts";
import { LINUX_TROUBLE } from "./kernel_trouble.ts";
import { type Qemu, type QemuOptions, startQemu } from "./qemu.ts";

/** A Linux guest's machine. */
export interface LinuxMachine
  extends Omit<QemuOptions, "kernel" | "initrd" | "bios"> {
  /** Version of Linux (6.1). */
  linux?: LinuxVersion;
  /** The limit in milliseconds for the boot (60,000). */
  bootTimeout?: number;
}

/** A script for a Linux guest. */
export interface LinuxGuestOptions extends LinuxMachine {
  /** The script. */
  script: string;
  /** The limit in milliseconds for the script and power off (60,000). */
  timeout?: number;
  /** Return a script's failure instead of throwing. */
  allowFailure?: boolean;
  /** Called with each line that the script prints, as it comes. */
  onLine?: (line: string) => void;
}

/** What a script left. */
export interface LinuxGuestResult {
  /** The script's exit status. */
  readonly exitStatus: number;
  /** The lines it printed, without those for the rig. */
  readonly output: readonly string[];
  /** What `say` reported; of one key said twice, the last. */
  readonly values: Readonly<Record<string, string>>;
  /** The names of the checks that held. */
  readonly checks: readonly string[];
  /** All that came over the console. */
  readonly transcript: string;
  /** Seconds from QEMU's start to the script's start, and to QEMU's end. */
  readonly seconds: { readonly boot: number; readonly total: number };
}

const KERNEL_ARGUMENTS = [
  "console=ttyS0",
  "quiet",
  "loglevel=4",
  "panic=-1", // a panic resets at once, which ends QEMU
  "mitigations=off",
  "nokaslr",
  "no_timer_check",
  "tsc=reliable",
];

/** Memory in MiB: the RAM disk, its unpacked content and room for files. */
const DEFAULT_MEMORY = 384;

const DEFAULT_TIMEOUT = 60_000;

/**
 * Boots a Linux guest, runs a script in it and waits for its power off.
 *
 * @throws {RigError} `guest` when the guest does not reach the script's end,
 * or the script fails (unless `allowFailure`), with the transcript's path
 */
export async function runLinuxGuest(
  options: LinuxGuestOptions,
): Promise<LinuxGuestResult> {
  const start = performance.now();
  const elapsed = () => (performance.now() - start) / 1_000;
  const reader = new LineReader(options.onLine ?? (() => {}));
  await using guest = await bootLinux(
    options,
    options.script,
    (text) => reader.push(text),
  );
  const { qemu } = guest;
  try {
    await qemu.console.expect(/^@@BOOT .*\n/m, {
      timeout: options.bootTimeout ?? DEFAULT_TIMEOUT,
    });
    const boot = elapsed();
    const timeout = options.timeout ?? DEFAULT_TIMEOUT;
    const end = await qemu.console.expect(/@@EXIT (\d+)\n/, { timeout });
    const code = await qemu.wait(timeout);
    const exitStatus = Number(end.groups[1]);
    if (code !== 0 || (exitStatus !== 0 && !options.allowFailure)) {
      throw new RigError(
        "guest",
        `${qemu.console.name}: the script ended with status ${exitStatus}, ` +
          `QEMU with ${code}; transcript in "${qemu.console.saveTranscript()}"` +
          `; last lines:\n${lastLines(end.before + qemu.messages)}`,
      );
    }
    return {
      exitStatus,
      ...parseOutput(end.before),
      transcript: qemu.console.transcript,
      seconds: { boot, total: elapsed() },
    };
  } catch (error) {
    throw withMessages(error, qemu);
  }
}

/** A Linux guest with a shell on its console. */
export class LinuxGuest implements AsyncDisposable {
  /** Its machine: `qemu.console.run` and `check` run commands. */
  readonly qemu: Qemu;
  #directory: TemporaryDirectory;

  /** Use {@linkcode startLinuxGuest}. */
  constructor(qemu: Qemu, directory: TemporaryDirectory) {
    this.qemu = qemu;
    this.#directory = directory;
  }

  /** Runs a command line that must succeed; its output. */
  async check(command: string, timeout?: number): Promise<string> {
    try {
      return await this.qemu.console.check(command, { timeout });
    } catch (error) {
      throw withMessages(error, this.qemu);
    }
  }

  /** Waits for the shell's prompt: after the start and after each reboot. */
  async waitForShell(timeout = DEFAULT_TIMEOUT): Promise<void> {
    try {
      await this.qemu.console.expect(/^@@BOOT .*\n/m, { timeout });
      await this.qemu.console.waitForPrompt({ timeout });
    } catch (error) {
      throw withMessages(error, this.qemu);
    }
  }

  /** Waits for the shell of a guest that came by migration. */
  async arrive(timeout = DEFAULT_TIMEOUT): Promise<void> {
    try {
      await this.qemu.console.sendLine("");
      await this.qemu.console.waitForPrompt({ timeout });
    } catch (error) {
      throw withMessages(error, this.qemu);
    }
  }

  /** Reboots the guest (started with `reboot`) and waits for its shell. */
  async reboot(timeout = DEFAULT_TIMEOUT): Promise<void> {
    await this.qemu.console.sendLine("reboot -f");
    await this.waitForShell(timeout);
  }

  /**
   * Powers the guest off.
   *
   * @returns QEMU's exit code
   */
  async powerOff(timeout = DEFAULT_TIMEOUT): Promise<number> {
    await this.qemu.console.sendLine("poweroff -f");
    return await this.qemu.wait(timeout);
  }

  /** Ends the guest. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.qemu.close();
    this.#directory[Symbol.dispose]();
  }
}

/**
 * Boots a Linux guest to a shell on its console.
 *
 * @throws {ConsoleError} when its prompt does not come in time
 */
export async function startLinuxGuest(
  options: LinuxMachine = {},
): Promise<LinuxGuest> {
  const guest = await bootLinux(options, null);
  try {
    await guest.waitForShell(options.bootTimeout);
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Starts a machine that a guest is to come to by migration. It has a shell when
 * the guest is there: {@linkcode LinuxGuest.arrive} waits for that.
 *
 * @param from where it comes from, as QEMU's `-incoming` has it
 */
export function awaitLinuxGuest(
  options: LinuxMachine,
  from: string,
): Promise<LinuxGuest> {
  const devices = [...options.devices ?? [], "-incoming", from];
  return bootLinux({ ...options, devices }, null);
}

async function bootLinux(
  options: LinuxMachine,
  script: string | null,
  onOutput?: ConsoleOptions["onOutput"],
): Promise<LinuxGuest> {
  const image = await guestImage(options);
  const directory = TemporaryDirectory.make("guest");
  try {
    const initrd = directory.file("initrd");
    writeRamDisk(initrd, image, script);
    const qemu = await startQemu({
      name: "linux-guest",
      memory: DEFAULT_MEMORY,
      ...options,
      kernel: image.kernel,
      initrd,
      append: [...KERNEL_ARGUMENTS, options.append ?? ""].join(" ").trim(),
      console: {
        prompt: /^guest# $/m,
        failOn: LINUX_TROUBLE,
        onOutput,
        ...options.console,
      },
    });
    return new LinuxGuest(qemu, directory);
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

function writeRamDisk(
  path: string,
  image: GuestImage,
  script: string | null,
): void {
  using file = Deno.openSync(path, { createNew: true, write: true });
  for (const archive of initialRamDisk(image, script)) {
    for (let at = 0; at < archive.length;) {
      at += file.writeSync(archive.subarray(at));
    }
  }
}

/** A line for the rig, perhaps behind output that no line end ended. */
const REPORT = /^(.*?)@@([A-Za-z][\w.-]*)(?: (.*))?$/;

/** What a script printed, by kind of line. */
export function parseOutput(
  text: string,
): Pick<LinuxGuestResult, "output" | "values" | "checks"> {
  const output: string[] = [];
  const values: Record<string, string> = {};
  const checks: string[] = [];
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const line of lines) {
    const found = REPORT.exec(line);
    const plain = found === null ? line : found[1];
    if (found === null || plain !== "") output.push(plain);
    if (found === null) continue;
    const [, , key, value = ""] = found;
    if (key === "CHECK") checks.push(value);
    else values[key] = value;
  }
  return { output, values, checks };
}

/** Cuts text that arrives in pieces into the lines of the script. */
export class LineReader {
  readonly #onLine: (line: string) => void;
  #state: "boot" | "script" | "end" = "boot";
  #rest = "";

  /** @param onLine called with each line that is not for the rig */
  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Takes the next piece. */
  push(piece: string): void {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, plain, key] = REPORT.exec(line) ?? [null, line, null];
      if (this.#state === "script" && (key === null || plain !== "")) {
        this.#onLine(plain);
      }
      if (key === "BOOT") this.#state = "script";
      if (key === "EXIT") this.#state = "end";
    }
  }
}

/** Adds what QEMU said on stderr to the error of a console that ended. */
function withMessages(error: unknown, qemu: Qemu): unknown {
  if (!(error instanceof ConsoleError) || qemu.messages === "") return error;
  return new ConsoleError(
    error.kind,
    `${error.message}\nQEMU said:\n${lastLines(qemu.messages)}`,
    error.transcriptPath,
  );
}
