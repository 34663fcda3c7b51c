/**
 * QEMU's qtest: a machine without a processor, whose registers are read and
 * written from outside.
 *
 * Theory of operation: qtest speaks lines over QEMU's stdin and stdout, one
 * command and its answer at a time; interrupts are intercepted, and lines that
 * tell of them come in between. Guest memory is a file that both sides map.
 *
 * Source: QEMU, `system/qtest.c`.
 *
 * @module
 */

import { findQemu } from "../../guest/rig/qemu.ts";
import { QmpClient } from "../../guest/rig/qmp.ts";
import { withDeadline } from "../../support/deadline.ts";
import { ChildProcess, lastLines } from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";

/** Milliseconds that QEMU has for an answer. */
const PATIENCE = 10_000;

/** A q35 machine. */
export interface QtestOptions {
  /** Memory in MiB. */
  readonly memory: number;
  /** File that is the memory; of that size. */
  readonly ram: string;
  /** Arguments for devices. */
  readonly devices: readonly string[];
}

/** A machine that does what it is told. */
export class Qtest implements AsyncDisposable {
  /** Its monitor. */
  readonly qmp: QmpClient;
  readonly #process: ChildProcess;
  readonly #directory: TemporaryDirectory;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: PromiseWithResolvers<string>[] = [];
  readonly #reading: Promise<void>;
  #raised = Promise.withResolvers<void>();
  #ended = false;

  private constructor(
    process: ChildProcess,
    qmp: QmpClient,
    directory: TemporaryDirectory,
  ) {
    this.#process = process;
    this.qmp = qmp;
    this.#directory = directory;
    this.#writer = process.stdin!.getWriter();
    this.#reading = this.#read();
  }

  /** Starts a machine and intercepts the interrupts of its devices. */
  static async start(options: QtestOptions): Promise<Qtest> {
    const emulator = (await findQemu()).program("qemu-system-x86_64");
    const directory = TemporaryDirectory.make("qtest");
    const monitor = directory.file("qmp.sock");
    using listener = Deno.listen({ transport: "unix", path: monitor });
    const process = ChildProcess.start(emulator.command, {
      args: [...emulator.args, ...machineArguments(options, monitor)],
      env: emulator.env,
      stdin: "piped",
      streamStdout: true,
      name: "qemu",
    });
    try {
      const opened = listener.accept().then(QmpClient.open);
      const ended = process.status.then(({ code }) => {
        throw new Error(
          `QEMU ended with code ${code}: ${lastLines(process.stderr.text)}`,
        );
      });
      ended.catch(() => {});
      const qmp = await withDeadline(
        Promise.race([opened, ended]),
        PATIENCE,
        "QEMU to open its monitor",
      );
      const machine = new Qtest(process, qmp, directory);
      await machine.send("irq_intercept_in ioapic");
      return machine;
    } catch (error) {
      await process[Symbol.asyncDispose]();
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends a command; what follows `OK` in its answer. */
  async send(command: string): Promise<string> {
    const answer = Promise.withResolvers<string>();
    if (this.#ended) throw new Error(`QEMU ended before ${command}`);
    this.#answers.push(answer);
    await this.#writer.write(new TextEncoder().encode(`${command}\n`));
    const line = await withDeadline(answer.promise, PATIENCE, command);
    if (!line.startsWith("OK")) throw new Error(`${command}: ${line}`);
    return line.slice(3);
  }

  /** Reads a port or memory: `inb`, `inw`, `inl`, `readb`, `readw`, `readl`. */
  async load(command: string, address: number): Promise<number> {
    return Number(await this.send(`${command} 0x${address.toString(16)}`));
  }

  /** Writes a port or memory: `outb`, …, `writel`. */
  async store(command: string, address: number, value: number): Promise<void> {
    await this.send(
      `${command} 0x${address.toString(16)} 0x${value.toString(16)}`,
    );
  }

  /** Waits until an interrupt line was raised since the last call. */
  async interrupt(): Promise<void> {
    await withDeadline(this.#raised.promise, PATIENCE, "an interrupt");
    this.#raised = Promise.withResolvers();
  }

  /** Resets the machine. */
  async reset(): Promise<void> {
    await this.qmp.execute("system_reset");
    await this.qmp.event("RESET");
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of this.#process.stdoutStream!) {
      const lines = (text + decoder.decode(chunk, { stream: true })).split(
        "\n",
      );
      text = lines.pop()!;
      for (const line of lines) {
        if (line.startsWith("IRQ raise")) this.#raised.resolve();
        else if (!line.startsWith("IRQ")) this.#answers.shift()?.resolve(line);
      }
    }
    this.#ended = true;
    for (const answer of this.#answers.splice(0)) answer.resolve("the end");
  }

  /** Ends QEMU. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
    await this.#reading;
    await this.#writer.close().catch(() => {}); // its reader has gone
    await this.qmp[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }
}

function machineArguments(options: QtestOptions, monitor: string): string[] {
  const { memory, ram, devices } = options;
  return [
    "-nodefaults",
    "-no-user-config",
    ...["-display", "none"],
    ...["-run-with", "exit-with-parent=on"],
    ...["-accel", "qtest"],
    ...["-qtest", "stdio"],
    ...["-qtest-log", "none"],
    ...["-qmp", `unix:${monitor},server=off`],
    ...["-m", String(memory)],
    "-object",
    `memory-backend-file,id=mem,size=${memory}M,mem-path=${ram},share=on`,
    ...["-machine", "q35,memory-backend=mem"],
    ...devices,
  ];
}
