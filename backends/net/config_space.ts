/**
 * The configuration space of a network device, and the state it tells of.
 *
 * Source: virtio 1.4, section 5.1.4.
 *
 * @module
 */

import { MAX_MTU, MIN_MTU, type ResolvedNetOptions } from "./options.ts";
import {
  CONFIG_DUPLEX,
  CONFIG_MAC,
  CONFIG_MAX_PAIRS,
  CONFIG_MTU,
  CONFIG_SIZE,
  CONFIG_SPEED,
  CONFIG_STATUS,
  MAC_SIZE,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
} from "./protocol.ts";

/** `duplex`: full. */
const FULL_DUPLEX = 1;
/** `speed` and `duplex` that are not known. */
const UNKNOWN_SPEED = 0xffffffff, UNKNOWN_DUPLEX = 0xff;

/** What a driver reads of the device. */
export class ConfigSpace {
  /** The space. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(CONFIG_SIZE);
  /** True when the device was given an address. */
  readonly hasMac: boolean;
  readonly #view = new DataView(this.bytes.buffer);
  readonly #options: ResolvedNetOptions;
  #administrative: boolean;
  #link = true;
  #announcing = false;
  #mtu: number;

  /** The space as the options make it. */
  constructor(options: ResolvedNetOptions) {
    this.#options = options;
    this.#administrative = options.link;
    this.#mtu = options.mtu;
    this.hasMac = options.mac !== null;
    const { speed } = options;
    this.#view.setUint16(CONFIG_MAX_PAIRS, options.queues, true);
    this.#view.setUint32(CONFIG_SPEED, speed || UNKNOWN_SPEED, true);
    this.bytes[CONFIG_DUPLEX] = speed > 0 ? FULL_DUPLEX : UNKNOWN_DUPLEX;
    this.reset();
  }

  /** Forgets what the driver changed. */
  reset(): void {
    this.#announcing = false;
    this.bytes.fill(0, CONFIG_MAC, CONFIG_MAC + MAC_SIZE);
    if (this.#options.mac !== null) this.bytes.set(this.#options.mac);
    this.#view.setUint16(CONFIG_MTU, this.#mtu, true);
    this.#describe();
  }

  /** The address. */
  get mac(): Uint8Array {
    return this.bytes.subarray(CONFIG_MAC, CONFIG_MAC + MAC_SIZE);
  }

  /** The MTU that was said, or 0. */
  get mtu(): number {
    return this.#mtu;
  }

  /** Whether frames pass: the link is wanted up, and the backend's is. */
  get linkUp(): boolean {
    return this.#administrative && this.#link;
  }

  /** The driver is asked to announce itself. */
  get announcing(): boolean {
    return this.#announcing;
  }
  set announcing(value: boolean) {
    this.#announcing = value;
    this.#describe();
  }

  /** The link of the backend is up or down. */
  setLink(up: boolean): void {
    this.#link = up;
    this.#describe();
  }

  /** The link is wanted up or down. */
  setAdministrative(up: boolean): void {
    this.#administrative = up;
    this.#describe();
  }

  /**
   * Sets the MTU.
   *
   * @throws {RangeError} unless it is an integer from 68 to 65535
   */
  setMtu(mtu: unknown): void {
    if (
      typeof mtu !== "number" || !Number.isInteger(mtu) || mtu < MIN_MTU ||
      mtu > MAX_MTU
    ) {
      throw new RangeError(
        `Cannot use an MTU of ${mtu}: it is from ${MIN_MTU} to ${MAX_MTU}`,
      );
    }
    this.#mtu = mtu;
    this.#view.setUint16(CONFIG_MTU, mtu, true);
  }

  /** Writes what of `data`, from `offset` on, falls on the address. */
  writeMac(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const at = offset + i - CONFIG_MAC;
      if (at >= 0 && at < MAC_SIZE) this.bytes[CONFIG_MAC + at] = data[i];
    }
  }

  #describe(): void {
    const status = (this.linkUp ? VIRTIO_NET_S_LINK_UP : 0) |
      (this.#announcing ? VIRTIO_NET_S_ANNOUNCE : 0);
    this.#view.setUint16(CONFIG_STATUS, status, true);
  }
}
