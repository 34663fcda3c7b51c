/**
 * A logical unit with initiators that send it commands: the target without any
 * transport.
 *
 * @module
 */

import { IoTable } from "../../../../sys/io_table.ts";
import { mapAnonymous, type Mapping } from "../../../../sys/mapping.ts";
import { TemporaryDirectory } from "../../../../tests/support/temporary_directory.ts";
import { openStorage } from "../../../storage/open.ts";
import type { Storage } from "../../../storage/storage.ts";
import { pattern } from "../../../storage/testing/buffers.ts";
import { TestRing } from "../../../storage/testing/test_ring.ts";
import { Bus } from "../bus.ts";
import { UNIT_CDROM, UNIT_DISK } from "../command.ts";
import { hash64 } from "../names.ts";
import { Initiator, type Nexus } from "../nexus.ts";
import { storageFinished } from "../sbc_transfer.ts";
import { PausedTasks } from "../script.ts";
import { decodeSense, type Sense } from "../sense.ts";
import { Task } from "../task.ts";
import { LogicalUnit, type UnitOptions } from "../unit.ts";

const TWO_32 = 4294967296;
const SLOTS = 64;
const SEGMENTS = 16;
/** Bytes of each buffer of a task. */
const BUFFER = 2 ** 21;
const MOST_TURNS = 10_000;

/** How a command ended. */
export interface Answer {
  readonly status: number;
  /** `null` without sense data. */
  readonly sense: Sense | null;
  /** One of `OUTCOME_*`. */
  readonly outcome: number;
  /** Data-In, as much as was moved. */
  readonly data: Uint8Array<ArrayBuffer>;
  readonly transferred: number;
}

/** What a command is sent with. */
export interface CommandBuffers {
  /** Data-Out. */
  readonly out?: Uint8Array;
  /** Bytes of the Data-In Buffer. */
  readonly room?: number;
  /** Task attribute. */
  readonly attribute?: number;
  /** Command identifier. */
  readonly tag?: number;
  /** Logical unit number. */
  readonly lun?: number;
}

/** A command whose buffers lie in memory of their own. */
export class TestTask extends Task {
  readonly #mapping: Mapping = mapAnonymous(2 * BUFFER);
  readonly #bytes = new Uint8Array(this.#mapping.buffer);
  #room = 0;
  #out = 0;
  /** Set when it ended. */
  answer: Answer | null = null;
  /** How often it ended. */
  ends = 0;

  /** Fills in a command. */
  prepare(cdb: Uint8Array, buffers: CommandBuffers): void {
    this.answer = null;
    this.cdb.fill(0);
    this.cdb.set(cdb);
    this.#room = buffers.room ?? 0;
    this.#out = buffers.out?.length ?? 0;
    this.attribute = buffers.attribute ?? 0;
    this.tagLow = buffers.tag ?? this.slot;
    this.tagHigh = 0;
    this.lun = buffers.lun ?? 0;
    this.#bytes.fill(0xee, 0, Math.min(this.#room + 4096, BUFFER));
    if (buffers.out !== undefined) this.#bytes.set(buffers.out, BUFFER);
  }

  override get dataInLength(): number {
    return this.#room;
  }

  override get dataOutLength(): number {
    return this.#out;
  }

  override readOut(
    position: number,
    into: Uint8Array,
    start = 0,
    length: number = into.length - start,
  ): number {
    const count = Math.min(length, this.#out - position);
    const from = BUFFER + position;
    into.set(this.#bytes.subarray(from, from + count), start);
    return count;
  }

  override writeIn(
    position: number,
    from: Uint8Array,
    length: number,
  ): number {
    this.#bytes.set(from.subarray(0, length), position);
    return length;
  }

  override iovec(
    words: Uint32Array,
    at: number,
    limit: number,
    dataIn: boolean,
    position: number,
    length: number,
  ): number {
    const base = this.#mapping.address + (dataIn ? 0 : BUFFER) + position;
    // Two pieces, so that the order of pieces matters.
    const first = Math.ceil(length / 2);
    const pieces = length > 1
      ? [[base, first], [base + first, length - first]]
      : [[base, length]];
    if (pieces.length > limit) return -1;
    pieces.forEach(([address, size], i) => {
      words[at + 4 * i] = address;
      words[at + 4 * i + 1] = address / TWO_32;
      words[at + 4 * i + 2] = size;
      words[at + 4 * i + 3] = 0;
    });
    return pieces.length;
  }

  override finished(): void {
    this.ends++;
    this.answer = {
      status: this.status,
      sense: this.senseLength === 0
        ? null
        : decodeSense(this.sense.subarray(0, this.senseLength)),
      outcome: this.outcome,
      data: this.#bytes.slice(0, Math.min(this.transferred, this.#room)),
      transferred: this.transferred,
    };
  }

  /** Frees the buffers. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
  }
}

/** An initiator with a bus of its own, whose target 0 has one logical unit 0. */
export class TestInitiator implements Disposable {
  readonly bus: Bus;
  readonly nexus: Nexus;
  readonly tasks: TestTask[] = [];
  readonly #table = new IoTable(SLOTS, SEGMENTS);
  readonly #ring = new TestRing();
  readonly #paused = new PausedTasks();
  readonly #storage: Storage | null;

  /** Connects an initiator with a logical unit. */
  constructor(
    name: string,
    unit: LogicalUnit,
    open: ((ring: TestRing) => Storage) | null,
  ) {
    this.bus = new Bus(
      new Initiator(name),
      (bus) => bus.target(0)?.inventory() ?? [],
    );
    this.nexus = this.bus.add(0, 0, unit);
    this.#storage = open === null ? null : open(this.#ring);
    if (this.#storage !== null) {
      this.#storage.attach(this.#table);
      this.#storage.onComplete = (slot, result) =>
        storageFinished(this.tasks[slot], result);
      unit.describeMedium(this.#storage);
    }
    this.nexus.storage = this.#storage;
    this.nexus.table = this.#table;
    this.nexus.pause = this.#paused.add;
  }

  /** Sends a command to logical unit 0, or to another nexus. */
  send(
    cdb: readonly number[] | Uint8Array,
    buffers: CommandBuffers = {},
    nexus: Nexus = this.nexus,
  ): TestTask {
    let task = this.tasks.find((one) => one.answer !== null);
    if (task === undefined) {
      task = new TestTask(this.tasks.length);
      this.tasks.push(task);
    }
    task.prepare(Uint8Array.from(cdb), buffers);
    task.begin(nexus);
    return task;
  }

  /** Sends a command and waits for its end. */
  run(
    cdb: readonly number[] | Uint8Array,
    buffers: CommandBuffers = {},
    nexus: Nexus = this.nexus,
  ): Answer {
    const task = this.send(cdb, buffers, nexus);
    for (let turn = 0; task.answer === null; turn++) {
      if (turn > MOST_TURNS) throw new Error("A command never ended");
      this.#storage?.poll();
      this.#paused.goOn();
      this.#ring.wait();
    }
    return task.answer;
  }

  /** Forgets unit attention conditions. */
  clearAttentions(): void {
    this.nexus.clearAttention();
  }

  [Symbol.dispose](): void {
    this.#storage?.close();
    this.#ring[Symbol.dispose]();
    this.#table[Symbol.dispose]();
    for (const task of this.tasks) task[Symbol.dispose]();
  }
}

/** What a {@linkcode TargetBench} is made with. */
export interface BenchOptions {
  /** Changes of the logical unit's options. */
  readonly unit?: Partial<UnitOptions>;
  /** Size of the image in bytes (default 1 MiB). */
  readonly size?: number;
  /** Storage engine (default `"sync"`). */
  readonly engine?: string;
  /** Bypass the page cache. */
  readonly direct?: boolean;
  /** Makes storage for each initiator, instead of an image. */
  readonly storage?: () => Storage;
  /** No medium at all. */
  readonly empty?: boolean;
}

/** A disk's options as the tests want them. */
export const DISK: UnitOptions = {
  kind: UNIT_DISK,
  vendor: "VHOSTD",
  product: "DISK",
  revision: "1.0",
  serial: "SN-0001",
  wwn: hash64("test"),
  blockSize: 512,
  rotational: false,
  thin: true,
  removable: false,
  readOnly: false,
  store: null,
};

/** A CD-ROM's options as the tests want them. */
export const CDROM: UnitOptions = {
  ...DISK,
  kind: UNIT_CDROM,
  product: "CD-ROM",
  blockSize: 2048,
  thin: false,
  removable: true,
  readOnly: true,
};

/** A logical unit over an image, and initiators; the first has no attentions. */
export class TargetBench implements Disposable {
  readonly unit: LogicalUnit;
  readonly initiators: TestInitiator[] = [];
  readonly path: string;
  readonly #directory = TemporaryDirectory.make("target");
  readonly #options: BenchOptions;

  /** Makes a logical unit and one initiator. */
  constructor(options: BenchOptions = {}) {
    this.#options = options;
    this.path = this.#directory.file("disk.img");
    this.unit = new LogicalUnit({ ...DISK, ...options.unit });
    Deno.writeFileSync(this.path, pattern(options.size ?? 2 ** 20, 1));
    this.join("first");
  }

  /** The first initiator. */
  get first(): TestInitiator {
    return this.initiators[0];
  }

  /** Connects another initiator. */
  join(name: string): TestInitiator {
    const { storage, engine = "sync", direct = false, empty } = this.#options;
    const initiator = new TestInitiator(
      name,
      this.unit,
      empty ? null : (ring) =>
        storage?.() ??
          openStorage({
            path: this.path,
            engine,
            direct,
            readOnly: this.unit.options.readOnly,
            blockSize: this.unit.blockSize,
            share: true,
          }, ring.get),
    );
    initiator.clearAttentions();
    this.initiators.push(initiator);
    return initiator;
  }

  /** Sends a command from the first initiator and waits for its end. */
  run(
    cdb: readonly number[] | Uint8Array,
    buffers: CommandBuffers = {},
  ): Answer {
    return this.first.run(cdb, buffers);
  }

  /** The image, or a part of it. */
  image(offset = 0, length = Infinity): Uint8Array<ArrayBuffer> {
    return Deno.readFileSync(this.path).slice(offset, offset + length);
  }

  [Symbol.dispose](): void {
    for (const initiator of this.initiators) initiator[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}
