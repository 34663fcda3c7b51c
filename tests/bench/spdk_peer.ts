/**
 * SPDK as a peer: its `vhost` as a back-end, its `bdevperf` as the client of
 * both. Neither is part of this project: they come from a build of its sources.
 *
 * Theory of operation. Both of SPDK's programs look at their rings all the time
 * and never sleep. Hence `vhost` is stopped (SIGSTOP) while it is not measured,
 * or it would take half of the CPU from the other back-end. All that is measured
 * has real-time priority where that is allowed, which keeps other programs off
 * both CPUs; of vhostd the device process alone, not its supervisor. (The kernel
 * itself waits for locks of /proc when a process has its children reaped; with
 * real-time priority it waits for ever if the holder is off its CPU.) The memory
 * of SPDK's programs are huge pages that somebody has set aside: `bdevperf`
 * shares its own with the back-end. It verifies nothing, and of latencies tells the mean only.
 * Its driver has a ring of 256 entries and uses chains of three descriptors, so
 * no more than 85 requests are in flight, whatever the depth.
 *
 * @module
 */

import { childrenOf } from "../protocol/net_command.ts";
import { waitUntil } from "../support/deadline.ts";
import {
  ChildProcess,
  lastLines,
  ProcessError,
  runCommand,
} from "../support/process.ts";
import {
  type Backend,
  CLIENT_CPU,
  type Disk,
  pinned,
  startBackend,
  vhostd,
} from "./backends.ts";
import type { Client, Load } from "./clients.ts";
import { usage } from "./usage.ts";

/** Sector of SPDK's disks, in bytes. */
const SECTOR = 512;
/** Entries of the ring of SPDK's driver. */
const RING_SIZE = 256;
/** Memory (MiB) of each of SPDK's programs. */
const MEMORY = 200;
/** Memory (MiB) of huge pages that both need, with what DPDK rounds up. */
export const HUGE_MEMORY = 800;
/** How long (ms) one of SPDK's programs may take to start, and to end. */
const PATIENCE = 30_000;
/** Real-time priority of what is measured, for chrt(1). */
const PRIORITY = "10";

/** How to come by SPDK. */
export const HOW_TO_BUILD =
  "SPDK is no part of vhostd: fetch its sources (github.com/spdk/spdk, 23.01 " +
  "was measured), ./configure && make";

/** A built SPDK. */
export interface Spdk {
  /** The vhost target. */
  readonly vhost: string;
  /** The load generator. */
  readonly bdevperf: string;
  /** What it says of its version. */
  readonly version: string;
}

/**
 * The SPDK that was built in a folder.
 *
 * @throws {Error} when a program is missing, or does not run
 */
export async function findSpdk(directory: string): Promise<Spdk> {
  const [vhost, bdevperf] = ["bin/vhost", "examples/bdevperf"].map((name) => {
    const path = `${directory}/build/${name}`;
    try {
      return Deno.realPathSync(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    throw new Error(
      `Cannot measure SPDK: there is no "${path}". ${HOW_TO_BUILD}`,
    );
  });
  try {
    const { stdout } = await runCommand(vhost, { args: ["--version"] });
    return { vhost, bdevperf, version: stdout.trim().replace(/^SPDK /, "") };
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error;
    throw new Error(
      `Cannot run SPDK: ${error.message}\nIf it is a shared library that is ` +
        "missing, name its folder in LD_LIBRARY_PATH",
    );
  }
}

/** Bytes of huge pages that nobody uses, of all sizes. */
export function freeHugeMemory(root = "/sys/kernel/mm/hugepages"): number {
  let bytes = 0;
  for (const { name } of Deno.readDirSync(root)) {
    const size = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (size === undefined) continue;
    const free = Deno.readTextFileSync(`${root}/${name}/free_hugepages`);
    bytes += Number(size) * 1024 * Number(free);
  }
  return bytes;
}

/**
 * Makes sure that SPDK finds the memory that it needs.
 *
 * @param free bytes of huge pages that nobody uses
 * @param mounts what /proc/mounts says
 * @throws {Error} with what to do
 */
export function requireHugePages(free: number, mounts: string): void {
  if (free < HUGE_MEMORY * 2 ** 20) {
    throw new Error(
      `Cannot measure SPDK: it needs ${HUGE_MEMORY} MiB of huge pages, and ` +
        `${
          Math.floor(free / 2 ** 20)
        } MiB are free. As root, say (and 0 afterwards):\n` +
        `  echo ${HUGE_MEMORY / 2} > /proc/sys/vm/nr_hugepages`,
    );
  }
  if (!/^\S+ \S+ hugetlbfs /m.test(mounts)) {
    throw new Error(
      "Cannot measure SPDK: no hugetlbfs is mounted. As root, say:\n" +
        "  mount -t hugetlbfs none /dev/hugepages",
    );
  }
}

/** Whether this process may give real-time priority. */
export async function mayPrioritize(): Promise<boolean> {
  const { code } = await runCommand("chrt", {
    args: ["-r", PRIORITY, "true"],
    anyCode: true,
  });
  return code === 0;
}

function prioritized(program: string, priority: boolean): string[] {
  return [...(priority ? ["chrt", "-r", PRIORITY] : []), program];
}

/** vhostd; `keys` go to `--blk`. */
export function vhostdPeer(keys: string, priority: boolean): Backend {
  const backend = vhostd("vhostd", keys);
  return {
    ...backend,
    start: async (disk) => {
      const supervisor = await backend.start(disk);
      try {
        if (priority) await prioritizeChild(supervisor.pid);
      } catch (error) {
        await supervisor.stop();
        throw error;
      }
      return supervisor;
    },
  };
}

/** What `vhost` serves: a disk of nothing, or one in memory. */
export function targetConfig(
  { medium, size, socket }: Pick<Disk, "medium" | "size" | "socket">,
): unknown {
  const bdev = medium === "null" ? "bdev_null_create" : "bdev_malloc_create";
  const params = {
    name: "disk",
    num_blocks: size / SECTOR,
    block_size: SECTOR,
  };
  return subsystems(["bdev", [
    { method: bdev, params },
    { method: "bdev_wait_for_examine" },
  ]], ["vhost_blk", [{
    method: "vhost_create_blk_controller",
    params: { ctrlr: nameOf(socket), dev_name: "disk" },
  }]]);
}

/** What `bdevperf` loads: the disk on a socket. */
export function clientConfig(socket: string): unknown {
  const params = {
    ...{ name: "disk", trtype: "user", traddr: socket, dev_type: "blk" },
    ...{ vq_count: 1, vq_size: RING_SIZE },
  };
  return subsystems(["bdev", [
    { method: "bdev_virtio_attach_controller", params },
    { method: "bdev_wait_for_examine" },
  ]]);
}

function subsystems(
  ...all: readonly (readonly [subsystem: string, config: unknown[]])[]
): unknown {
  return {
    subsystems: all.map(([subsystem, config]) => ({ subsystem, config })),
  };
}

function nameOf(socket: string): string {
  return socket.slice(socket.lastIndexOf("/") + 1);
}

/** Arguments that all of SPDK's programs take, for one CPU. */
function commonArguments(cpu: number, config: string): string[] {
  return [
    ...["-m", `0x${(1 << cpu).toString(16)}`, "-s", String(MEMORY)],
    ...["-c", config, "--iova-mode", "va", "--no-pci"],
  ];
}

/** Its threads to come have the priority of those that there are. */
async function prioritizeChild(supervisor: number): Promise<void> {
  let children: number[] = [];
  await waitUntil(() => {
    children = childrenOf(supervisor);
    return children.length > 0;
  }, { what: "the device process" });
  await runCommand("chrt", {
    args: ["-a", "-r", "-p", PRIORITY, String(children[0])],
  });
}

/** SPDK's `vhost`. */
export function spdkTarget({ vhost }: Spdk, priority: boolean): Backend {
  return {
    name: "spdk",
    spins: true,
    start: (disk) => {
      const { socket } = disk;
      const directory = socket.slice(0, -nameOf(socket).length - 1);
      const config = `${socket}.json`;
      Deno.writeTextFileSync(config, JSON.stringify(targetConfig(disk)));
      return startBackend("spdk", socket, [
        ...[...prioritized(vhost, priority), "-S", directory],
        ...["-r", `${socket}.rpc`],
        ...[...commonArguments(0, config), "--huge-unlink"],
      ]);
    },
  };
}

/** Figures of `bdevperf`. */
export interface BdevperfTotal {
  /** Requests a second. */
  readonly iops: number;
  /** Requests a second that failed or took too long. */
  readonly failed: number;
}

/** What `bdevperf` prints as the total. */
export function parseBdevperf(output: string): BdevperfTotal {
  // Total : IOPS MiB/s Fail/s TO/s …
  const line = /^\s*Total\s*:\s+([\d.]+)\s+[\d.]+\s+([\d.]+)\s+([\d.]+)/m;
  const found = line.exec(output);
  if (found === null) {
    throw new Error(
      `Cannot find the total in what bdevperf said:\n${lastLines(output)}`,
    );
  }
  const [iops, failed, late] = found.slice(1).map(Number);
  return { iops, failed: failed + late };
}

/** Arguments of `bdevperf` for a load of so many seconds. */
export function bdevperfArguments(
  { operation, pattern, blockSize, depth }: Load,
  seconds: number,
): string[] {
  const kind = pattern === "scattered" ? `rand${operation}` : operation;
  return [
    ...["-q", String(depth), "-o", String(blockSize), "-w", kind],
    ...["-t", String(seconds)],
  ];
}

/** SPDK's `bdevperf`. */
export function bdevperfClient(
  { bdevperf }: Spdk,
  priority: boolean,
): Client {
  return {
    scattered: "random",
    versatile: false,
    can: (mode) => mode === "poll",
    run: async ({ socket }, load, seconds, { pid = Deno.pid }) => {
      const config = `${socket}.client.json`;
      Deno.writeTextFileSync(config, JSON.stringify(clientConfig(socket)));
      const [first, ...rest] = prioritized(bdevperf, priority);
      const [program, prefix] = pinned(CLIENT_CPU, first);
      const before = usage(pid).cpu;
      await using child = ChildProcess.start(program, {
        name: "bdevperf",
        args: [
          ...[...prefix, ...rest, "--single-file-segments"],
          ...commonArguments(CLIENT_CPU, config),
          ...bdevperfArguments(load, seconds),
        ],
      });
      const { code } = await child.wait(1000 * seconds + PATIENCE);
      const output = child.stdout.text + child.stderr.text;
      if (code !== 0) {
        throw new ProcessError(
          "failed",
          `bdevperf ended with code ${code}:\n${lastLines(output)}`,
        );
      }
      const { iops, failed } = parseBdevperf(output);
      if (failed > 0) {
        throw new ProcessError(
          "failed",
          `bdevperf had ${failed} requests a second fail`,
        );
      }
      const requests = Math.round(iops * seconds);
      return {
        ...{ requests, total: requests, seconds, iops, errors: 0 },
        megabytes: iops * load.blockSize / 1e6,
        // What spins did so while bdevperf started, too; it has one CPU.
        backendCpu: Math.min(seconds, usage(pid).cpu - before),
      };
    },
  };
}
