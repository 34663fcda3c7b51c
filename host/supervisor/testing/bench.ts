/**
 * A supervisor in the process of a test, with real device processes whose
 * devices fail when they are told to.
 *
 * @module
 */

import { Reactor } from "../../../sys/reactor.ts";
import { waitUntil, withDeadline } from "../../../tests/support/deadline.ts";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import type { DeviceSpec } from "../../device_host.ts";
import { Logger } from "../../log.ts";
import {
  type SupervisedSpec,
  Supervisor,
  type SupervisorOptions,
} from "../supervisor.ts";

const MODULE = new URL("./crashing_device.ts", import.meta.url).href;
/** How long (ms) things may take: no test waits for it to pass. */
export const LIMIT = 20_000;

/** What the tests look at in a status. */
export interface Facts {
  readonly state: string;
  readonly process: string | null;
  readonly pid: number;
  readonly rss: number | null;
  readonly restarts: number;
  readonly lastExit: string | null;
  readonly problem: string | null;
  readonly connected: boolean;
  readonly connections: number;
  readonly device: { readonly asked?: number };
}

/** A supervisor in this process, with its log. */
export class Bench implements AsyncDisposable {
  readonly directory = TemporaryDirectory.make("sup");
  readonly reactor = new Reactor();
  readonly lines: string[] = [];
  supervisor!: Supervisor;

  open(
    specs: readonly SupervisedSpec[],
    options?: SupervisorOptions,
  ): Supervisor {
    const log = new Logger({ write: (line) => void this.lines.push(line) });
    this.supervisor = new Supervisor(specs, log, this.reactor, {
      // A busy machine is told of by the tests that are about that.
      startPatience: LIMIT,
      ...options,
    });
    return this.supervisor;
  }

  async start(
    specs: readonly SupervisedSpec[],
    options?: SupervisorOptions,
  ): Promise<Supervisor> {
    const supervisor = this.open(specs, options);
    await withDeadline(supervisor.start(), LIMIT, "the start");
    return supervisor;
  }

  /** A device that listens on `NAME.sock`. */
  device(
    name: string,
    more: Partial<DeviceSpec> & { process?: string } = {},
  ): SupervisedSpec {
    const { process = null, ...rest } = more;
    const socket = rest.fd === undefined
      ? this.directory.file(`${name}.sock`)
      : undefined;
    const options = { refuse: this.directory.file(`${name}.refuse`) };
    const spec = { name, type: "crash", module: MODULE, options, socket };
    return { spec: { ...spec, ...rest }, process };
  }

  async facts(name: string): Promise<Facts> {
    const device = this.supervisor.devices.find((each) => each.name === name)!;
    return await device.status() as unknown as Facts;
  }

  command(name: string, command: string): Promise<unknown> {
    const device = this.supervisor.devices.find((each) => each.name === name)!;
    return device.command(command, {});
  }

  /** Waits until a device is in a state, and that often started again. */
  async until(name: string, state: string, restarts = 0): Promise<Facts> {
    await waitUntil(async () => {
      const facts = await this.facts(name);
      return facts.state === state && facts.restarts >= restarts;
    }, { what: `"${name}" to be ${state}`, timeout: LIMIT });
    return await this.facts(name);
  }

  /** The log lines with that text. */
  logged(text: string): string[] {
    return this.lines.filter((line) => line.includes(text));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.supervisor?.kill();
    await this.supervisor?.stop();
    this.reactor.close();
    this.directory[Symbol.dispose]();
  }
}

/** True when there is no such process any more. */
export function isGone(pid: number): boolean {
  try {
    return / Z /.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}
