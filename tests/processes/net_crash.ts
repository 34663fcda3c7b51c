/**
 * A network device with packed rings, whose process is killed again and again.
 *
 * Theory of operation: the guest's memory and rings belong to the test and live
 * through every kill, as do the supervisor, which is in this process, and the
 * memory that it keeps for the rings. Nobody tracks requests as QEMU does for
 * disks: the front-end names the positions at which the rings began, always. The
 * device sends each frame back. One that was under way when the process died may
 * come twice, or be lost; but every buffer comes back once, what comes is a frame
 * that was sent, and after a kill frames come again.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Logger } from "../../host/log.ts";
import { Supervisor } from "../../host/supervisor/supervisor.ts";
import { Reactor } from "../../sys/reactor.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../virtqueue/testing/driver.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";

const MODULE = new URL("../../backends/net/mod.ts", import.meta.url).href;
const BASE = 0x10_0000;
/** Neither is a power of two: laps end anywhere. */
const RX_SIZE = 101, TX_SIZE = 61;
const HEADER = 12, FRAME = 80;
const LIMIT = 30_000;

/** How a {@linkcode CrashingNet} is driven. */
export interface CrashingNetOptions {
  /** Of the random numbers. */
  readonly seed: number;
  /** Whether VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_IN_ORDER is. */
  readonly inOrder: boolean;
}

/** The frame of a number. */
function frameOf(number: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(FRAME);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  for (let at = 16; at < FRAME; at += 4) view.setUint32(at, number + at);
  return frame;
}

/** A device, its supervisor, and its driver. */
export class CrashingNet implements AsyncDisposable {
  /** Frames that were sent, that came back, and that came twice. */
  readonly counts = { sent: 0, received: 0, twice: 0 };
  readonly rx: FakePackedDriver;
  readonly tx: FakePackedDriver;
  readonly #options: CrashingNetOptions;
  readonly #directory = TemporaryDirectory.make("net-crash");
  readonly #reactor = new Reactor();
  readonly #region = SharedRegion.create(BASE, 1 << 20);
  readonly #supervisor: Supervisor;
  readonly #seen = new Set<number>();
  #frontEnd: FrontEnd | null = null;
  #random: number;

  private constructor(options: CrashingNetOptions) {
    this.#options = options;
    this.#random = options.seed;
    const { eventIdx } = options;
    const memory = new FakeMemory([this.#region]);
    this.rx = new FakePackedDriver(memory, { size: RX_SIZE, eventIdx });
    this.tx = new FakePackedDriver(memory, { size: TX_SIZE, eventIdx });
    const spec = {
      name: "net",
      type: "net",
      module: MODULE,
      options: { backend: "echo" },
      socket: this.#socket,
    };
    this.#supervisor = new Supervisor(
      [{ spec, process: null }],
      new Logger({ level: "error", write: () => {} }),
      this.#reactor,
      // However short its life: it is started again at once.
      { longLife: 0 },
    );
  }

  get #socket(): string {
    return this.#directory.file("net.sock");
  }

  /** Serves a device and connects. */
  static async start(options: CrashingNetOptions): Promise<CrashingNet> {
    const net = new CrashingNet(options);
    try {
      await net.#supervisor.start();
      await net.connect();
      return net;
    } catch (error) {
      await net[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Connects as QEMU does: rings began where rings begin. */
  async connect(): Promise<void> {
    this.#frontEnd?.close();
    const frontEnd = FrontEnd.connect(this.#socket);
    this.#frontEnd = frontEnd;
    const { eventIdx, inOrder } = this.#options;
    const features = eventIdx ? ~0n : ~(1n << 29n);
    await frontEnd.handshake({ packed: true, inOrder, features });
    const rings = new Map([[0, this.rx], [1, this.tx]]);
    const positions = { 0: this.rx.start, 1: this.tx.start };
    await frontEnd.start([this.#region], rings, { positions });
  }

  /** The process of the device. */
  async pid(): Promise<number> {
    let pid: unknown = null;
    await waitUntil(async () => {
      pid = (await this.#supervisor.devices[0].status()).pid;
      return typeof pid === "number";
    }, { what: "a process", timeout: LIMIT });
    return pid as unknown as number;
  }

  /** Kills the process, and waits for the next one. */
  async kill(): Promise<void> {
    const pid = await this.pid();
    Deno.kill(pid, "SIGKILL");
    await waitUntil(async () => await this.pid() !== pid, {
      what: "another process",
      timeout: LIMIT,
    });
  }

  /** Sends and receives until `end` says that it is enough. */
  async run(end: () => boolean): Promise<void> {
    const start = performance.now();
    while (!end()) {
      this.#turn(true);
      await new Promise((resolve) => setTimeout(resolve));
      assert(performance.now() - start < LIMIT, this.#describe());
    }
  }

  /** Waits for frames that were sent after the last kill. */
  async progress(frames: number): Promise<void> {
    const goal = this.counts.received + frames;
    await this.run(() => this.counts.received >= goal);
  }

  /** All that was sent is used; every receive buffer serves once more. */
  async finish(): Promise<void> {
    await this.progress(2 * RX_SIZE);
    await waitUntil(() => {
      this.#turn(false);
      return this.tx.inFlight === 0;
    }, { what: "the end of what was sent", timeout: LIMIT });
    // From now on nothing is lost, and nothing comes twice.
    const { sent, received, twice } = this.counts;
    for (let i = 0; i < 3 * TX_SIZE; i++) {
      this.#send();
      if (this.tx.kickNeeded()) this.#frontEnd!.kick(1);
      await waitUntil(() => {
        this.#turn(false);
        return this.counts.received - received > i;
      }, { what: `frame ${i} after the kills`, timeout: LIMIT });
    }
    assertEquals(this.counts.sent - sent, 3 * TX_SIZE);
    assertEquals(this.counts.received - received, 3 * TX_SIZE);
    assertEquals(this.counts.twice, twice);
  }

  /** The driver resets the device while nobody serves it, and begins anew. */
  resetRings(): void {
    this.rx.reset();
    this.tx.reset();
  }

  #describe(): string {
    return `${this.rx.inFlight} and ${this.tx.inFlight} chains are with the ` +
      `device, and nothing moves: ${JSON.stringify(this.counts)}`;
  }

  #turn(sending: boolean): void {
    const { rx, tx } = this;
    // What the device wrote is checked by the driver: each id once, and lengths.
    tx.reap();
    for (const { data, length } of rx.reap()) this.#receive(data, length);
    while (rx.inFlight < RX_SIZE - 1) {
      if (rx.submit([{ writable: HEADER + 1514 }]) < 0) break;
    }
    if (rx.kickNeeded()) this.#frontEnd!.kick(0);
    for (let n = this.#integer(8); sending && n > 0; n--) {
      if (tx.freeDescriptors < 2 || rx.inFlight < RX_SIZE / 2) break;
      this.#send();
    }
    if (tx.kickNeeded()) this.#frontEnd!.kick(1);
  }

  #send(): void {
    const frame = frameOf(this.counts.sent++);
    const indirect = this.#integer(2) === 0;
    const parts = [{ readable: new Uint8Array(HEADER) }, { readable: frame }];
    assert(this.tx.submit(parts, { indirect }) >= 0);
  }

  #receive(data: Uint8Array, length: number): void {
    assertEquals(length, HEADER + FRAME);
    const bytes = data.slice(HEADER, length);
    const number = new DataView(bytes.buffer).getUint32(16) - 16;
    const frame = frameOf(number);
    const swapped = frame.slice();
    swapped.set(frame.subarray(6, 12));
    swapped.set(frame.subarray(0, 6), 6);
    assertEquals(bytes, swapped);
    assert(number >= 0 && number < this.counts.sent, `frame ${number}`);
    if (this.#seen.has(number)) this.counts.twice++;
    this.#seen.add(number);
    this.counts.received++;
  }

  /** A random integer below `limit`. */
  #integer(limit: number): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return (x >>> 0) % limit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#frontEnd?.close();
    this.#supervisor.kill();
    await this.#supervisor.stop();
    this.#reactor.close();
    this.#region[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

/**
 * Kills the process of a device so many times under traffic.
 *
 * @returns what there is to tell
 */
export async function killNet(
  options: CrashingNetOptions,
  count: number,
): Promise<string> {
  await using net = await CrashingNet.start(options);
  let met = 0;
  for (let kill = 0; kill < count; kill++) {
    // Some die at once, others when they have served for a while.
    const end = performance.now() + (kill % 8) ** 2 / 2;
    await net.progress(1);
    await net.run(() => performance.now() >= end);
    if (net.tx.inFlight > 0) met++;
    await net.kill();
    await net.connect();
  }
  await net.finish();
  const { sent, received, twice } = net.counts;
  return `${count} kills, ${met} with frames under way; ${sent} frames sent, ` +
    `${received} came back, ${twice} of them twice`;
}
