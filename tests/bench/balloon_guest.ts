/**
 * Balloons that a Linux guest moves: ours, and QEMU's own.
 *
 * Nobody is asked how far it is while the balloon moves: the answers would count
 * as its work, and ours, which come through three threads, are dear. When the
 * virtual processor rests, the driver is done.
 *
 * @module
 */

import { memorySpace, vhostUserBalloon } from "../guest/balloons.ts";
import { type LinuxGuest, startLinuxGuest } from "../guest/rig/linux_guest.ts";
import { runCommand } from "../support/process.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import type { Movement } from "./balloon_driver.ts";
import { BalloonProcess, threadSeconds } from "./balloon_process.ts";

/** Memory of the guest in MiB, and the part of it that goes. */
const MEMORY = 512, PART = 0.75;
const GIBIBYTES = MEMORY * PART / 1024;
const MIB = 2 ** 20;
/** How often (ms) to look whether the virtual processor rests. */
const LOOK = 10;
/** CPU seconds between two looks, at most, of one that rests. */
const RESTING = LOOK / 1000 / 20;

/** A balloon in a guest, moved and measured. */
export interface GuestRun {
  readonly inflate: Movement;
  readonly deflate: Movement;
  /** CPU seconds of the virtual processor for a GiB, inflating. */
  readonly guestCpu: number;
}

/** A device, as this benchmark uses it. */
interface Device {
  /** QEMU's arguments. */
  readonly arguments: readonly string[];
  /** Asks for so many bytes of guest memory. */
  set(guest: LinuxGuest, bytes: number): Promise<void>;
  /** Bytes of guest memory, as the driver says. */
  actual(guest: LinuxGuest): Promise<number>;
  /** Process besides QEMU that does the work. */
  readonly pid: number | null;
}

/** Measures our balloon. */
export async function measureOurs(rounds: number): Promise<GuestRun[]> {
  using directory = TemporaryDirectory.make("balloon");
  const socket = directory.file("balloon.sock");
  // What QEMU's balloon does by default, and no more.
  await using balloon = await BalloonProcess.start(socket, {
    pageReporting: false,
    statsInterval: 0,
  });
  return await measure({
    arguments: vhostUserBalloon(socket),
    pid: balloon.pid,
    async set(_guest, bytes) {
      await balloon.command("balloon-set", { size: bytes });
    },
    async actual() {
      const { memory, actual } = await balloon.command("status");
      return memory - actual;
    },
  }, rounds);
}

/** Measures QEMU's own. */
export async function measureQemu(rounds: number): Promise<GuestRun[]> {
  return await measure({
    arguments: ["-device", "virtio-balloon-pci,disable-legacy=on"],
    pid: null,
    async set({ qemu }, bytes) {
      await qemu.qmp.execute("balloon", { value: bytes });
    },
    async actual({ qemu }) {
      const answer = await qemu.qmp.execute("query-balloon");
      return (answer as { actual: number }).actual;
    },
  }, rounds);
}

async function measure(device: Device, rounds: number): Promise<GuestRun[]> {
  await using guest = await startLinuxGuest({
    memory: MEMORY,
    devices: device.arguments,
  });
  const runs: GuestRun[] = [];
  for (let round = 0; round < rounds; round++) {
    await populate(guest);
    const full = memorySpace(guest.qemu);
    const virtual = virtualProcessor(guest);
    const inflate = await move(device, guest, MEMORY * (1 - PART) * MIB);
    const guestCpu = (virtualProcessor(guest) - virtual) / GIBIBYTES;
    const freed = full - memorySpace(guest.qemu);
    // The driver allocates a little of its own meanwhile.
    if (freed < (MEMORY * PART - 16) * MIB) {
      throw new Error(`Only ${freed} bytes went back to the host`);
    }
    const deflate = await move(device, guest, MEMORY * MIB);
    runs.push({ inflate, deflate, guestCpu });
  }
  return runs;
}

/** Gives every page of the guest's memory space on the host. */
async function populate({ qemu }: LinuxGuest): Promise<void> {
  for (const { name } of Deno.readDirSync(`/proc/${qemu.pid}/fd`)) {
    const path = `/proc/${qemu.pid}/fd/${name}`;
    if (!await isMemory(path)) continue;
    await runCommand("fallocate", { args: ["-l", `${MEMORY}MiB`, path] });
    return;
  }
  throw new Error("QEMU has no memfd");
}

async function isMemory(path: string): Promise<boolean> {
  const target = await Deno.readLink(path).catch(() => "");
  return target.startsWith("/memfd:memory-backend-memfd");
}

async function move(
  device: Device,
  guest: LinuxGuest,
  bytes: number,
): Promise<Movement> {
  const cpu = hostSeconds(device, guest), start = performance.now();
  await device.set(guest, bytes);
  let busy = virtualProcessor(guest), end = start, spent = 0;
  await waitUntil(async () => {
    const before = busy;
    busy = virtualProcessor(guest);
    if (busy - before > RESTING) {
      end = performance.now();
      return false;
    }
    // The answer to a question costs something itself, which is not counted.
    spent = hostSeconds(device, guest) - cpu;
    return await device.actual(guest) === bytes;
  }, {
    what: `the guest to have ${bytes} bytes`,
    timeout: 120_000,
    interval: LOOK,
  });
  return {
    rate: GIBIBYTES / ((end - start) / 1000),
    cpu: spent / GIBIBYTES,
  };
}

/** CPU time of all but the virtual processors. */
function hostSeconds({ pid }: Device, { qemu }: LinuxGuest): number {
  return threadSeconds(qemu.pid, (name) => !isVirtual(name)) +
    (pid === null ? 0 : threadSeconds(pid));
}

function virtualProcessor({ qemu }: LinuxGuest): number {
  return threadSeconds(qemu.pid, isVirtual);
}

function isVirtual(thread: string): boolean {
  return thread.startsWith("CPU ");
}
