/**
 * DPDK's testpmd with a virtio-user port: a front-end and a driver that share no
 * code with ours, without a guest.
 *
 * @module
 */

import { Console } from "../../support/console.ts";
import { ChildProcess } from "../../support/process.ts";
import type { RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import { inSysroot, sysroot, type SysrootSpec } from "./packages.ts";

/** DPDK's packages. */
export const DPDK_PACKAGES: SysrootSpec = {
  name: "dpdk",
  suites: ["trixie"],
  packages: [
    "dpdk-dev",
    "librte-net-virtio25",
    "librte-net-vhost25",
    "librte-mempool-ring25",
    "librte-bus-vdev25",
  ],
};

/** Drivers that are loaded: its own loader refuses directories of others. */
const DRIVERS = [
  "librte_bus_vdev.so.25",
  "librte_mempool_ring.so.25",
  "librte_net_virtio.so.25",
  "librte_net_vhost.so.25",
];

/** Frames that a port sent and received. */
export interface PortStats {
  readonly received: number;
  readonly sent: number;
  readonly missed: number;
}

/** A running testpmd. */
export class Testpmd implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #console: Console;

  private constructor(process: ChildProcess, console: Console) {
    this.#process = process;
    this.#console = console;
  }

  /** Where DPDK is, fetched if need be. */
  static prepare(options: RigOptions = {}): Promise<string> {
    return sysroot(DPDK_PACKAGES, options);
  }

  /**
   * Starts it on a socket, or on several, with a port for each.
   *
   * @param port more arguments of the virtio-user ports, each with its comma
   */
  static start(
    root: string,
    socket: string | readonly string[],
    port = "",
  ): Promise<Testpmd> {
    const ports = [socket].flat().map((path, i) =>
      `net_virtio_user${i},path=${path}${port}`
    );
    return Testpmd.#launch(root, ports, 0);
  }

  /** Starts it as a back-end that listens on sockets, with a port for each. */
  static serve(
    root: string,
    sockets: readonly string[],
    cpu: number,
  ): Promise<Testpmd> {
    const ports = sockets.map((path, i) => `net_vhost${i},iface=${path}`);
    return Testpmd.#launch(root, ports, cpu);
  }

  static async #launch(
    root: string,
    ports: readonly string[],
    cpu: number,
  ): Promise<Testpmd> {
    const { command, args } = inSysroot(root, "dpdk-testpmd");
    const words = [
      ...[command, "--preload", DRIVERS.join(" "), ...args],
      ...[
        "--lcores",
        `0@${cpu},1@${cpu}`,
        "--no-pci",
        "--no-huge",
        "-m",
        "128",
      ],
      ...["--no-telemetry", `--file-prefix=vhostd-${Deno.pid}-${cpu}`],
      ...ports.flatMap((port) => ["--vdev", port]),
      ...["--", "-i", "--total-num-mbufs=4096"],
    ];
    const line = words.map((word) => `'${word}'`).join(" ");
    // Without a terminal it keeps what it prints to itself.
    const process = ChildProcess.start("script", {
      args: ["--quiet", "--return", "--flush", "--command", line, "/dev/null"],
      stdin: "piped",
      streamStdout: true,
      name: "testpmd",
    });
    const console = Console.over(process, { name: "testpmd" });
    const testpmd = new Testpmd(process, console);
    try {
      await console.expect("testpmd> ", { timeout: 20_000 });
      return testpmd;
    } catch (error) {
      await testpmd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Its process: the one that the terminal was made for. */
  get pid(): number {
    const { pid } = this.#process;
    const path = `/proc/${pid}/task/${pid}/children`;
    const [child = pid] = Deno.readTextFileSync(path).split(" ")
      .filter(Boolean).map(Number);
    return child;
  }

  /** Runs a command; what it prints. */
  async run(command: string): Promise<string> {
    await this.#console.sendLine(command);
    const { before } = await this.#console.expect("testpmd> ", {
      timeout: 20_000,
    });
    return before;
  }

  /** The counters of a port. */
  async stats(port = 0): Promise<PortStats> {
    const text = await this.run(`show port stats ${port}`);
    const field = (name: string) =>
      Number(new RegExp(`${name}: *(\\d+)`).exec(text)?.[1] ?? NaN);
    return {
      received: field("RX-packets"),
      sent: field("TX-packets"),
      missed: field("RX-missed"),
    };
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#console.close();
    await this.#process.stop("SIGKILL");
  }
}

/** Where DPDK is, or why it is not. */
export async function dpdkOrReason(): Promise<
  { root: string; reason: string }
> {
  try {
    const progress = (line: string) => console.log(line);
    return { root: await Testpmd.prepare({ progress }), reason: "" };
  } catch (error) {
    if (error instanceof RigError && error.kind === "platform") {
      return { root: "", reason: error.message };
    }
    throw error;
  }
}
