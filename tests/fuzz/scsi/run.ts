/**
 * Fuzzes SCSI hosts: commands, task management, notifications and what people
 * do to logical units, as the bytes of an input want them.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import type { Observer } from "../engine/target.ts";
import { DeviceDriver, DISTURB_BYTES } from "../device/driver.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { featureMask } from "../../../virtqueue/constants.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { COMMAND_BYTES, commandOf } from "./commands.ts";
import { HOLE, Hosts, REGIONS, type Side } from "./hosts.ts";
import { REQUEST, RESPONSE } from "./model.ts";
import { type Images, optionsOf, SPARE, UNITS } from "./units.ts";

/** Bytes of a record. */
export const RECORD = 32;
/** VERSION_1, HOTPLUG and CHANGE, or not. */
const FEATURES = [featureMask(32, 1, 2), featureMask(32), 0n] as const;
/** Sizes of sense data and CDB that drivers choose. */
const SIZES = [[96, 32], [0, 16], [18, 32], [252, 64], [7, 6], [40, 10]];
const FUNCTIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0xffff_ffff] as const;

/** The drivers of SCSI hosts. */
export class Run {
  readonly #images: Images;
  readonly #observer: Observer;
  readonly #driver: DeviceDriver;
  readonly #hosts: Hosts;

  constructor(
    memory: FuzzMemory,
    shared: GuestMemory,
    images: Images,
    bytes: Bytes,
    observer: Observer,
  ) {
    this.#images = images;
    this.#observer = observer;
    const places = { regions: REGIONS, hole: HOLE };
    const driver = new DeviceDriver(memory, shared, places, REGIONS[2][0]);
    this.#driver = driver;
    const delayed = bytes.u8() % 4 === 3;
    const features = FEATURES[bytes.u8() % FEATURES.length];
    const eventIdx = bytes.u8() % 2 === 1;
    this.#hosts = new Hosts({
      ...{ memory, shared, images, driver, observer },
      ...{ delayed, features, eventIdx },
    });
  }

  /** One record. */
  async step(bytes: Bytes): Promise<void> {
    const kind = bytes.u8() % 8;
    const which = bytes.u8();
    const side = this.#hosts.sides[which < 0xc0 ? 0 : 1];
    if (kind < 4) return this.#command(side, which, bytes);
    if (kind === 4) return this.#control(side, which, bytes);
    if (kind === 5) {
      this.#say(this.#driver.disturb(bytes));
      return skip(bytes, DISTURB_BYTES);
    }
    const what = bytes.u8(), a = bytes.u8(), b = bytes.u8();
    skip(bytes, 3);
    if (kind === 6) await this.#manage(side, what, a, b);
    else if (what % 4 === 3) this.#hosts.restart(side, a % 2 === 1);
    else if (what % 4 === 2) this.#provide(side, a, b);
    else this.#hosts.release(1 + a % 4, b % 2 === 1);
    this.#hosts.turn(null);
  }

  /** A LUN field, of a logical unit more often than not. */
  #field({ units }: Side, which: number): Uint8Array<ArrayBuffer> {
    const field = new Uint8Array(8);
    const choice = which % 16;
    const { target, lun } = units[choice % units.length];
    field[0] = 1;
    field[1] = target;
    if (lun < 256) field[3] = lun;
    else field.set([0x40 | lun >> 8, lun & 255], 2);
    if (choice === 12) field[1] = 7;
    if (choice === 13) field[3] ^= 0x15;
    if (choice === 14) field.set([0xc1, 1, 0, 0]);
    if (choice === 15) field.set([which >> 4, which, which >> 3, which]);
    return field;
  }

  #command(side: Side, which: number, bytes: Bytes): void {
    const field = this.#field(side, which);
    const medium = this.#hosts.mediumOf(side, field) ??
      { blockSize: 512, image: new Uint8Array(0x8000) };
    const { cdb, out, room } = commandOf(bytes, medium);
    const flags = bytes.u8(), adjust = bytes.u8(), attribute = bytes.u8();
    const tag = bytes.u8();
    const cuts = [bytes.u8(), 16 * bytes.u8()], writeCut = 8 * bytes.u8();
    const kind = bytes.u8(), at = bytes.u16(), writeAt = bytes.u16();
    const moment = bytes.u8(), how = bytes.u8();
    skip(bytes, COMMAND_BYTES + 14);
    const { cdbSize, senseSize } = side;
    const head = REQUEST + cdbSize;
    const all = new Uint8Array(head + out.length);
    all.set(field);
    all[8] = tag % 4;
    all[16] = attribute < 0xc0 ? 0 : attribute % 4;
    all.set(cdb.subarray(0, cdbSize), REQUEST);
    all.set(out, head);
    const change = adjust < 0xc0 ? 0 : (adjust - 0xe0) * 3;
    const length = Math.max(
      0,
      (flags & 16) !== 0 ? all.length + change : all.length,
    );
    const sent = new Uint8Array(length);
    sent.set(all.subarray(0, length));
    const answer = RESPONSE + senseSize;
    const space = Math.max(
      0,
      answer + room + ((flags & 16) === 0 ? change : 0),
    );
    const pieces = [
      ...this.#driver.place({
        bytes: sent,
        length,
        cuts: [head, ...cuts],
        kind,
        at,
      }),
      ...this.#driver.place({
        length: Math.min(space, 0x4000),
        cuts: [answer, writeCut],
        kind: kind >> 4,
        at: writeAt,
      }),
    ];
    if (pieces.length === 0) return;
    this.#say(
      `host ${side.number}, LUN ${field}: ${cdb.subarray(0, 16)}, ` +
        `${length} to read, ${space} to write`,
    );
    this.#driver.submit(side.first + 2, pieces, (flags & 1) !== 0);
    if ((flags & 2) !== 0) return;
    this.#hosts.turn((flags & 12) === 12 ? { moment, how } : null);
  }

  #control(side: Side, which: number, bytes: Bytes): void {
    const type = bytes.u8(), subtype = bytes.u8(), tag = bytes.u8();
    const flags = bytes.u8(), adjust = bytes.u8();
    const cuts = [bytes.u8(), bytes.u8()], kind = bytes.u8();
    const at = bytes.u16(), room = bytes.u8(), events = bytes.u8();
    skip(bytes, 12);
    const request = new Uint8Array(24);
    const view = new DataView(request.buffer);
    const field = this.#field(side, which);
    const manages = type < 0xf0 && type % 3 === 0;
    view.setUint32(0, type < 0xf0 ? type % 3 : type, true);
    if (manages) {
      view.setUint32(4, FUNCTIONS[subtype % FUNCTIONS.length], true);
      request.set(field, 8);
      request[16] = tag % 4;
    } else {
      request.set(field, 4);
      view.setUint32(12, events < 0xc0 ? 0x10 : events, true);
    }
    const whole = manages ? 24 : 16;
    const length = adjust < 0xc0 ? whole : adjust % (whole + 1);
    const space = room < 0xe0 ? (manages ? 1 : 5) : room % 8;
    const pieces = [
      ...this.#driver.place({
        bytes: request.subarray(0, length),
        length,
        cuts,
        kind,
        at,
      }),
      ...this.#driver.place({ length: space, cuts: [], kind: kind >> 4, at }),
    ];
    if (pieces.length === 0) return;
    this.#say(`host ${side.number}, control: ${request.subarray(0, length)}`);
    this.#driver.submit(side.first, pieces, (flags & 1) !== 0);
    if ((flags & 2) === 0) this.#hosts.turn(null);
  }

  /** Buffers for events. */
  #provide(side: Side, a: number, b: number): void {
    for (let i = 0; i <= a % 4; i++) {
      const length = b < 0xe0 ? 16 : b % 20;
      if (length === 0) continue;
      const at = 0x40 * a + 0x20 * i;
      const kind = b < 0xc0 ? 0 : b;
      const pieces = this.#driver.place({ length, cuts: [b % 32], kind, at });
      this.#driver.submit(side.first + 1, pieces, b % 2 === 1);
    }
    this.#say(`${a % 4 + 1} buffers for events`);
  }

  async #manage(
    side: Side,
    what: number,
    a: number,
    b: number,
  ): Promise<void> {
    const { device } = side;
    switch (what % 6) {
      case 0: {
        const [sense, cdb] = SIZES[a % SIZES.length];
        const bytes = new Uint8Array(8);
        const view = new DataView(bytes.buffer);
        view.setUint32(0, b < 0xf0 ? sense : b << 8, true);
        view.setUint32(4, b < 0xf0 ? cdb : b % 2 * 0x1_0000, true);
        device.writeConfig(20, bytes);
        if (b < 0xf0) [side.senseSize, side.cdbSize] = [sense, cdb];
        else {
          side.senseSize = device.senseSize;
          side.cdbSize = device.cdbSize;
        }
        return this.#say(`sense size ${sense}, CDB size ${cdb}`);
      }
      case 1:
        if (side.units.includes(SPARE)) return;
        return this.#hosts.attempt(() => {
          device.command("lun-add", optionsOf(SPARE, this.#images));
          side.units.push(SPARE);
          this.#say("a logical unit is added");
        });
      case 2:
        if (!side.units.includes(SPARE)) return;
        side.units.splice(side.units.indexOf(SPARE), 1);
        this.#say("a logical unit is removed");
        return await this.#hosts.attempt(() =>
          device.command("lun-remove", { target: 2, lun: 1 })
        );
      case 3: {
        const [unit, names] = a % 2 === 0
          ? [UNITS[4], ["f", "", "f"]] as const
          : [UNITS[1], ["b", "", "b"]] as const;
        if (!side.units.includes(unit)) return;
        const name = names[b % names.length];
        const { target, lun } = unit;
        this.#say(`target ${target}, LUN ${lun} gets medium "${name}"`);
        return await this.#hosts.attempt(async () => {
          const path = this.#images.path(name);
          await device.command("change-medium", { target, lun, path });
          this.#hosts.media.set(unit, name);
        });
      }
      case 4: {
        const { target, lun } = side.units[a % side.units.length];
        device.command("lun-resize", { target, lun });
        return this.#say(`target ${target}, LUN ${lun} is looked at`);
      }
      default: {
        const { length } = JSON.stringify(device.status());
        this.#say(`status of ${length}`);
      }
    }
  }

  /** Lets everything come to its end, and stops. */
  async finish(): Promise<void> {
    await this.#hosts.finish();
  }

  /** Gives everything back. */
  close(): void {
    this.#hosts.close();
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }
}

function skip(bytes: Bytes, read: number): void {
  for (let i = read + 2; i < RECORD; i++) bytes.u8();
}
