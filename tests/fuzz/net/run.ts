/**
 * Fuzzes network devices: frames, buffers and commands, as the bytes of an
 * input want them.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import type { Observer } from "../engine/target.ts";
import { DeviceDriver, DISTURB_BYTES } from "../device/driver.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { COMMAND_BYTES, commandOf, FRAME_BYTES, frameOf } from "./frames.ts";
import { has, headerSize } from "./model.ts";
import { HOLE, Network, REGIONS, type Side } from "./network.ts";

/** Bytes of a record. */
export const RECORD = 28;

/** Options of the devices of a run. */
const SETUPS: readonly (readonly Record<string, unknown>[])[] = [
  [{ backend: "switch", name: "fuzz" }, { backend: "switch", name: "fuzz" }],
  [{ backend: "echo" }],
  [{ backend: "echo", queues: 2 }],
];
/** Bits that are not accepted, of those that are offered. */
const MASKS = [
  0n,
  // Nothing is left to the driver.
  1n << 1n | 15n << 7n,
  1n << 15n,
  1n << 32n,
  // An old driver.
  1n << 32n | 1n << 15n | 0xffn << 16n,
  1n << 1n | 15n << 7n | 1n << 15n,
  1n << 8n | 1n << 10n,
  0xffffn,
] as const;

/** The drivers of a network. */
export class Run {
  readonly #observer: Observer;
  readonly #driver: DeviceDriver;
  readonly #network: Network;

  constructor(
    memory: FuzzMemory,
    shared: GuestMemory,
    bytes: Bytes,
    observer: Observer,
  ) {
    this.#observer = observer;
    const places = { regions: REGIONS, hole: HOLE };
    this.#driver = new DeviceDriver(memory, shared, places, REGIONS[2][0]);
    this.#network = new Network(memory, shared, this.#driver, observer);
    const setup = SETUPS[bytes.u8() % SETUPS.length];
    const masks = [bytes.u8(), bytes.u8()];
    const eventIdx = bytes.u8() % 2 === 1;
    try {
      setup.forEach((options, i) => {
        const mask = MASKS[masks[i] % MASKS.length];
        this.#network.plug(options, mask, eventIdx);
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** One record. */
  step(bytes: Bytes): void {
    const kind = bytes.u8() % 8;
    const { sides } = this.#network;
    const side = sides[bytes.u8() % sides.length];
    if (kind < 3) return this.#transmit(side, bytes);
    if (kind === 3) return this.#provide(side, bytes);
    if (kind === 4) return this.#command(side, bytes);
    if (kind === 5) {
      this.#say(this.#driver.disturb(bytes));
      return skip(bytes, DISTURB_BYTES);
    }
    const what = bytes.u8(), a = bytes.u8(), b = bytes.u8();
    skip(bytes, 3);
    if (kind === 6) this.#configure(side, what, a, b);
    else if (what % 4 === 3) this.#network.restart(side, a % 2 === 1);
    this.#network.turn(null);
  }

  #transmit(side: Side, bytes: Bytes): void {
    const pair = bytes.u8() % side.pairs, flags = bytes.u8();
    const { header, frame } = frameOf(bytes);
    const cuts = [bytes.u8(), 8 * bytes.u8(), 32 * bytes.u8()];
    const kind = bytes.u8(), at = bytes.u16();
    const moment = bytes.u8(), how = bytes.u8();
    skip(bytes, 2 + FRAME_BYTES + 8);
    const size = headerSize(side.features);
    const all = new Uint8Array(size + frame.length);
    all.set(header.subarray(0, size));
    all.set(frame, size);
    const length = (flags & 8) === 0
      ? all.length
      : Math.min(all.length, cuts[0]);
    const pieces = this.#driver.place({
      bytes: all.subarray(0, length),
      length,
      cuts: [size, ...cuts],
      kind,
      at,
    });
    this.#say(`transmit ${length}: header ${header}`);
    const ring = side.first + 2 * pair + 1;
    this.#driver.submit(ring, pieces, (flags & 1) !== 0);
    if ((flags & 2) !== 0) return;
    this.#network.turn((flags & 4) === 0 ? null : { moment, how });
  }

  #provide(side: Side, bytes: Bytes): void {
    const pair = bytes.u8() % side.pairs, flags = bytes.u8();
    const many = bytes.u8(), large = bytes.u8(), size = bytes.u16();
    const cuts = [bytes.u8(), 16 * bytes.u8()];
    const kind = bytes.u8(), at = bytes.u16();
    skip(bytes, 11);
    const length = large < 0x80
      ? 1530 + size % 64
      : size % (large < 0xe0 ? 0x4000 : 32);
    for (let i = 0; i <= many % 8; i++) {
      const pieces = this.#driver.place({
        length,
        cuts,
        kind,
        at: at + i * 0x600,
      });
      const ring = side.first + 2 * pair;
      if (pieces.length > 0) {
        this.#driver.submit(ring, pieces, (flags & 1) !== 0);
      }
    }
    this.#say(`${many % 8 + 1} buffers of ${length} bytes`);
    this.#network.turn(null);
  }

  #command(side: Side, bytes: Bytes): void {
    const flags = bytes.u8(), room = bytes.u8();
    const command = commandOf(bytes);
    const cuts = [bytes.u8(), bytes.u8()], kind = bytes.u8();
    const at = bytes.u16();
    skip(bytes, 2 + COMMAND_BYTES + 5);
    const pieces = [
      ...this.#driver.place({
        bytes: command,
        length: command.length,
        cuts: [2, ...cuts],
        kind,
        at,
      }),
      ...this.#driver.place({
        length: room < 0xe0 ? 1 : room % 3,
        cuts: [],
        kind: kind >> 4,
        at,
      }),
    ];
    if (pieces.length === 0) return;
    const single = has(side.features, 17) && !has(side.features, 22);
    const index = single ? 2 : 2 * side.pairs;
    this.#say(`command ${command.subarray(0, 16)}`);
    this.#driver.submit(side.first + index, pieces, (flags & 1) !== 0);
    this.#network.turn(null);
  }

  #configure(side: Side, what: number, a: number, b: number): void {
    switch (what % 4) {
      case 0:
        side.link = a % 2 === 0;
        side.device.command("link", { up: side.link });
        return this.#say(`the link is up: ${side.link}`);
      case 1:
        side.device.command("announce", {});
        return this.#say("an announcement is asked for");
      case 2:
        side.device.command("mtu", { mtu: 68 + a });
        return this.#say(`the MTU is ${68 + a}`);
      default: {
        side.device.writeConfig(b % 24, Uint8Array.of(2, a, b, 4));
        const { length } = JSON.stringify(side.device.status());
        this.#say(`configuration is written, status of ${length}`);
      }
    }
  }

  /** Stops everything. */
  finish(): void {
    this.#network.finish();
  }

  /** Gives everything back. */
  close(): void {
    this.#network.close();
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }
}

function skip(bytes: Bytes, read: number): void {
  for (let i = read + 2; i < RECORD; i++) bytes.u8();
}
