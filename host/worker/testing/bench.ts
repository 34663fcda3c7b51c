/**
 * A {@linkcode DataLoop} in the thread of a test, with a device that echoes.
 *
 * @module
 */

import { EventFd } from "../../../sys/eventfd.ts";
import { mapAnonymous, type Mapping } from "../../../sys/mapping.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type { RingInflight } from "../../../vhost/data_plane.ts";
import type { VirtioDevice, VirtQueue } from "../../../virtqueue/device.ts";
import { FakeDriver, FakeMemory } from "../../../virtqueue/testing/driver.ts";
import type { FakePackedDriver } from "../../../virtqueue/testing/packed_driver.ts";
import { DataLoop } from "../data_loop.ts";
import type { HostedDevice } from "../hosted_device.ts";
import { PollingGovernor } from "../polling.ts";
import type { Waiter } from "../waiter.ts";

const MEMORY = 1 << 20;
/** Guest address of the memory of a {@linkcode Bench}. */
export const GUEST_ADDRESS = 0x10_0000;

/** Answers each chain with its own readable bytes, now or later. */
export class EchoDevice implements VirtioDevice {
  readonly deviceId = 0;
  readonly features = 0n;
  readonly queueCount = 2;
  readonly maxSegments = 16;
  readonly config = new Uint8Array(0);
  /** Chains taken and kept until `poll`. */
  readonly held: DescriptorChain[] = [];
  later = false;
  parked = false;
  serves = 0;
  polls = 0;
  largestBatch = 0;
  readonly #bytes = new Uint8Array(4096);

  serve(queue: VirtQueue, budget: number): boolean {
    this.serves++;
    if (this.parked) return false;
    let taken = 0;
    for (; taken < budget; taken++) {
      const chain = queue.take();
      if (chain === null) break;
      if (this.later) this.held.push(chain);
      else this.#echo(chain);
    }
    this.largestBatch = Math.max(this.largestBatch, taken);
    return true;
  }

  poll(): number {
    this.polls++;
    const done = this.held.splice(0);
    for (const chain of done) this.#echo(chain);
    return done.length;
  }

  #echo(chain: DescriptorChain): void {
    const length = chain.read(0, this.#bytes);
    chain.queue.complete(chain, chain.write(0, this.#bytes, 0, length));
  }
}

/** A loop with a device, memory and one ring, in this thread. */
export class Bench implements Disposable {
  readonly mapping: Mapping = mapAnonymous(MEMORY, { shared: true });
  readonly control = EventFd.create();
  readonly kick = EventFd.create();
  readonly call = EventFd.create();
  readonly error = EventFd.create();
  readonly posted = new Int32Array(new SharedArrayBuffer(8));
  readonly device = new EchoDevice();
  readonly loop: DataLoop;
  readonly hosted: HostedDevice;
  readonly driver: FakeDriver;
  readonly region: {
    guestAddress: number;
    size: number;
    hostAddress: number;
  };

  constructor(
    waiter: Waiter,
    slots = 64,
    copy = true,
    polling = new PollingGovernor("off"),
  ) {
    this.loop = new DataLoop(
      this.control.fd,
      this.posted,
      waiter,
      polling,
    );
    this.hosted = this.loop.host(slots);
    this.hosted.device = this.device;
    this.region = {
      guestAddress: GUEST_ADDRESS,
      size: MEMORY,
      hostAddress: this.mapping.address,
    };
    this.hosted.addRegion(this.region);
    const memory = new FakeMemory([{
      guestAddress: GUEST_ADDRESS,
      bytes: new Uint8Array(this.mapping.buffer),
      hostAddress: this.mapping.address,
    }]);
    this.driver = new FakeDriver(memory, { size: 64, copy });
  }

  start(
    options: {
      kickFd?: number;
      position?: number;
      index?: number;
      usedLog?: number;
      inflight?: RingInflight;
    } = {},
    driver: FakeDriver | FakePackedDriver = this.driver,
  ): void {
    const { descriptorTable, availableRing, usedRing, size } = driver;
    this.hosted.startRing({
      index: options.index ?? 0,
      size,
      descriptorTable,
      availableRing,
      usedRing,
      position: options.position ?? 0,
      kickFd: options.kickFd ?? this.kick.fd,
      callFd: this.call.fd,
      errorFd: this.error.fd,
      usedLog: options.usedLog,
      inflight: options.inflight,
    });
  }

  submit(text: string): number {
    const readable = new TextEncoder().encode(text);
    return this.driver.submit([{ readable }, { writable: readable.length }]);
  }

  turns(count: number): void {
    for (let i = 0; i < count; i++) this.loop.run(0, true);
  }

  texts(): string[] {
    return this.driver.reap().map(({ data, length }) =>
      new TextDecoder().decode(data.subarray(0, length))
    );
  }

  [Symbol.dispose](): void {
    this.loop[Symbol.dispose]();
    for (const fd of [this.control, this.kick, this.call, this.error]) {
      fd.close();
    }
    this.mapping.unmap();
  }
}
