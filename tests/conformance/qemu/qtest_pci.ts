/**
 * A virtio-pci device of a real QEMU, by its registers. Interrupts are INTx.
 *
 * Source: virtio 1.4, section 4.1.4 (modern) and 4.1.4.10 (legacy); QEMU,
 * `hw/virtio/virtio-pci.c`, for where the structures are in their BAR.
 *
 * @module
 */

import type { RingLayout } from "../../../vhost/testing/front_end.ts";
import type { VirtioPciDevice } from "../freebsd/device.ts";
import type { Qtest } from "./qtest.ts";

/** Slot of the device on the root bus, where it is a transitional one. */
export const QTEST_SLOT = 4;

const CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc;
const PCI_COMMAND = 0x04, PCI_BAR0 = 0x10, PCI_BAR1 = 0x14;
/** I/O, memory, bus master. */
const COMMAND_ALL = 7;
/** Where the firmware would have put the BARs. */
const LEGACY = 0xc000, MSIX = 0xfe10_0000, MODERN = 0xfe00_0000;

// Legacy registers, without MSI-X.
const LEGACY_HOST_FEATURES = 0, LEGACY_GUEST_FEATURES = 4;
const LEGACY_QUEUE_PFN = 8, LEGACY_QUEUE_NUM = 12, LEGACY_QUEUE_SELECT = 14;
const LEGACY_QUEUE_NOTIFY = 16, LEGACY_STATUS = 18, LEGACY_ISR = 19;
const LEGACY_CONFIG = 20;

// Modern: common configuration at the start of the BAR, then the others.
const DEVICE_FEATURE_SELECT = 0, DEVICE_FEATURE = 4;
const DRIVER_FEATURE_SELECT = 8, DRIVER_FEATURE = 12;
const NUM_QUEUES = 18, DEVICE_STATUS = 20;
const QUEUE_SELECT = 22, QUEUE_SIZE = 24, QUEUE_ENABLE = 28;
const QUEUE_NOTIFY_OFF = 30, QUEUE_DESC = 32, QUEUE_DRIVER = 40;
const QUEUE_DEVICE = 48;
const ISR = 0x1000, DEVICE_CONFIG = 0x2000, NOTIFY = 0x3000;
const NOTIFY_MULTIPLIER = 4;

const ISR_QUEUE = 1, ISR_CONFIG = 2;

/** The device in slot {@linkcode QTEST_SLOT}. */
export class QtestPci implements VirtioPciDevice {
  readonly conversation = null;
  readonly #qtest: Qtest;
  readonly #modern: boolean;
  /** Number of the BAR with the modern structures. */
  readonly #memoryBar: number;
  /** Interrupts that were taken from the register, but not by the driver yet. */
  #pending = 0;

  private constructor(qtest: Qtest, modern: boolean, memoryBar: number) {
    this.#qtest = qtest;
    this.#modern = modern;
    this.#memoryBar = memoryBar;
  }

  /**
   * Does to the device what firmware does.
   *
   * @param memoryBar number of the BAR with the modern structures: 4, or 2 where
   * there is no transitional device of the kind
   */
  static async make(
    qtest: Qtest,
    modern: boolean,
    memoryBar: 2 | 4 = 4,
  ): Promise<QtestPci> {
    const device = new QtestPci(qtest, modern, memoryBar);
    await device.#assignResources();
    return device;
  }

  readStatus(): Promise<number> {
    return this.#modern
      ? this.#qtest.load("readb", MODERN + DEVICE_STATUS)
      : this.#qtest.load("inb", LEGACY + LEGACY_STATUS);
  }

  async writeStatus(status: number): Promise<void> {
    if (this.#modern) {
      await this.#qtest.store("writeb", MODERN + DEVICE_STATUS, status);
    } else {
      await this.#qtest.store("outb", LEGACY + LEGACY_STATUS, status);
    }
  }

  async readFeatures(): Promise<bigint> {
    if (!this.#modern) {
      return BigInt(
        await this.#qtest.load("inl", LEGACY + LEGACY_HOST_FEATURES),
      );
    }
    let features = 0n;
    for (const half of [0, 1]) {
      await this.#qtest.store("writel", MODERN + DEVICE_FEATURE_SELECT, half);
      const bits = await this.#qtest.load("readl", MODERN + DEVICE_FEATURE);
      features |= BigInt(bits) << BigInt(32 * half);
    }
    return features;
  }

  async writeFeatures(features: bigint): Promise<void> {
    const low = Number(features & 0xffff_ffffn), high = Number(features >> 32n);
    if (!this.#modern) {
      return await this.#qtest.store(
        "outl",
        LEGACY + LEGACY_GUEST_FEATURES,
        low,
      );
    }
    for (const [half, bits] of [low, high].entries()) {
      await this.#qtest.store("writel", MODERN + DRIVER_FEATURE_SELECT, half);
      await this.#qtest.store("writel", MODERN + DRIVER_FEATURE, bits);
    }
  }

  queueCount(): Promise<number> {
    return this.#qtest.load("readw", MODERN + NUM_QUEUES);
  }

  async queueSize(index: number): Promise<number> {
    await this.#selectQueue(index);
    return this.#modern
      ? await this.#qtest.load("readw", MODERN + QUEUE_SIZE)
      : await this.#qtest.load("inw", LEGACY + LEGACY_QUEUE_NUM);
  }

  async writeQueuePfn(index: number, pfn: number): Promise<void> {
    await this.#selectQueue(index);
    await this.#qtest.store("outl", LEGACY + LEGACY_QUEUE_PFN, pfn);
  }

  async enableQueue(index: number, layout: RingLayout): Promise<void> {
    await this.#selectQueue(index);
    await this.#qtest.store("writew", MODERN + QUEUE_SIZE, layout.size);
    const parts: [number, number][] = [
      [QUEUE_DESC, layout.descriptorTable],
      [QUEUE_DRIVER, layout.availableRing],
      [QUEUE_DEVICE, layout.usedRing],
    ];
    for (const [register, address] of parts) {
      const low = address % 2 ** 32, high = Math.floor(address / 2 ** 32);
      await this.#qtest.store("writel", MODERN + register, low);
      await this.#qtest.store("writel", MODERN + register + 4, high);
    }
    await this.#qtest.store("writew", MODERN + QUEUE_ENABLE, 1);
  }

  async notify(index: number): Promise<void> {
    if (!this.#modern) {
      return await this.#qtest.store(
        "outw",
        LEGACY + LEGACY_QUEUE_NOTIFY,
        index,
      );
    }
    await this.#selectQueue(index);
    const off = await this.#qtest.load("readw", MODERN + QUEUE_NOTIFY_OFF);
    const at = MODERN + NOTIFY + off * NOTIFY_MULTIPLIER;
    await this.#qtest.store("writew", at, index);
  }

  /** In pieces of 4, 2 and 1 bytes, as `vtpci_read_dev_config` has it. */
  async readConfig(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length), view = new DataView(bytes.buffer);
    for (let at = 0; at < length;) {
      const left = length - at;
      if (left >= 4) {
        view.setUint32(at, await this.#loadConfig("l", offset + at), true);
        at += 4;
      } else if (left >= 2) {
        view.setUint16(at, await this.#loadConfig("w", offset + at), true);
        at += 2;
      } else {
        view.setUint8(at, await this.#loadConfig("b", offset + at));
        at += 1;
      }
    }
    return bytes;
  }

  async writeConfig(
    offset: number,
    value: number,
    length: 1 | 4 = 1,
  ): Promise<void> {
    const width = length === 4 ? "l" : "b";
    if (this.#modern) {
      const address = MODERN + DEVICE_CONFIG + offset;
      await this.#qtest.store(`write${width}`, address, value);
    } else {
      const address = LEGACY + LEGACY_CONFIG + offset;
      await this.#qtest.store(`out${width}`, address, value);
    }
  }

  waitInterrupt(_index: number): Promise<void> {
    return this.#wait(ISR_QUEUE);
  }

  async takeInterrupt(_index: number): Promise<boolean> {
    await this.#readIsr();
    const taken = (this.#pending & ISR_QUEUE) !== 0;
    this.#pending &= ~ISR_QUEUE;
    return taken;
  }

  waitConfigInterrupt(): Promise<void> {
    return this.#wait(ISR_CONFIG);
  }

  async vmStop(): Promise<void> {
    await this.#qtest.qmp.execute("stop");
  }

  async vmContinue(): Promise<void> {
    await this.#qtest.qmp.execute("cont");
  }

  async machineReset(): Promise<void> {
    await this.#qtest.reset();
    this.#pending = 0;
    await this.#assignResources();
  }

  async close(): Promise<void> {
    await this.#qtest[Symbol.asyncDispose]();
  }

  async #wait(bit: number): Promise<void> {
    await this.#readIsr();
    while ((this.#pending & bit) === 0) {
      await this.#qtest.interrupt();
      await this.#readIsr();
    }
    this.#pending &= ~bit;
  }

  /** Reading clears the register and lowers the line. */
  async #readIsr(): Promise<void> {
    this.#pending |= this.#modern
      ? await this.#qtest.load("readb", MODERN + ISR)
      : await this.#qtest.load("inb", LEGACY + LEGACY_ISR);
  }

  async #selectQueue(index: number): Promise<void> {
    if (this.#modern) {
      await this.#qtest.store("writew", MODERN + QUEUE_SELECT, index);
    } else {
      await this.#qtest.store("outw", LEGACY + LEGACY_QUEUE_SELECT, index);
    }
  }

  #loadConfig(size: "b" | "w" | "l", offset: number): Promise<number> {
    return this.#modern
      ? this.#qtest.load(`read${size}`, MODERN + DEVICE_CONFIG + offset)
      : this.#qtest.load(`in${size}`, LEGACY + LEGACY_CONFIG + offset);
  }

  async #assignResources(): Promise<void> {
    if (!this.#modern) await this.#writePci(PCI_BAR0, LEGACY);
    await this.#writePci(PCI_BAR1, MSIX);
    const memory = PCI_BAR0 + 4 * this.#memoryBar;
    await this.#writePci(memory, MODERN);
    await this.#writePci(memory + 4, 0);
    await this.#writePci(PCI_COMMAND, COMMAND_ALL);
  }

  async #writePci(register: number, value: number): Promise<void> {
    const address = 0x8000_0000 + QTEST_SLOT * 0x800 + register;
    await this.#qtest.store("outl", CONFIG_ADDRESS, address);
    await this.#qtest.store("outl", CONFIG_DATA, value);
  }
}
