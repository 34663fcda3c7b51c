/**
 * Whether a write must be durable before it completes.
 *
 * Theory of operation. virtio 1.4, section 5.2.6.2, knows three ways in which a
 * write becomes stable. Which one holds follows from what the driver negotiated:
 *
 * - CONFIG_WCE: from the `writeback` field, which the driver may write. 0 means
 *   that a write is stable when it completes.
 * - FLUSH without CONFIG_WCE: the driver flushes. The option `wce=off` makes
 *   writes durable all the same.
 * - neither: nobody will ever flush, so every write is durable.
 *
 * A reset does not raise `writeback` again: front-ends keep a copy of the field
 * (QEMU does) and go on showing it to the driver, so a mode that is weaker than
 * the copy would break a promise. The specification leaves the mode after a
 * reset open.
 *
 * @module
 */

import { errnoName, errnoText } from "../../sys/errno.ts";
import { ConfigRefusal } from "../../virtqueue/config_refusal.ts";
import { hasFeature, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import { VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH } from "./protocol.ts";

/** The cache mode of a block device. */
export class CacheMode {
  readonly #initial: boolean;
  #writeback: boolean;
  #features = 0n;
  #writethrough = true;
  #negotiated = false;

  /**
   * @param writeback the option `wce`
   * @param kept the field `writeback` as a predecessor that died had it
   */
  constructor(writeback: boolean, kept: boolean = writeback) {
    this.#initial = writeback;
    this.#writeback = kept;
  }

  /** The field `writeback`: 0 or 1. */
  get writeback(): number {
    return this.#writeback ? 1 : 0;
  }

  /** True when a write must be durable before it completes. */
  get writethrough(): boolean {
    return this.#writethrough;
  }

  /** The mode by name; `null` while no driver has negotiated it. */
  get mode(): "writeback" | "writethrough" | null {
    if (!this.#negotiated) return null;
    return this.#writethrough ? "writethrough" : "writeback";
  }

  /** The driver acknowledged features. */
  negotiate(features: bigint): void {
    if (
      features !== this.#features &&
      hasFeature(features, VIRTIO_F_VERSION_1) &&
      hasFeature(features, VIRTIO_BLK_F_CONFIG_WCE) &&
      !hasFeature(features, VIRTIO_BLK_F_FLUSH)
    ) {
      this.#writeback = false;
    }
    this.#features = features;
    this.#negotiated = true;
    this.#decide();
  }

  /**
   * The driver wrote `writeback`. Before features are known that is taken too:
   * legacy drivers may write early. When a cache is switched off, what is in it
   * becomes durable first, as that of any disk does: nobody flushes it later.
   *
   * @param settle makes all that was written durable; 0, or a negative errno
   * @throws {ConfigRefusal} when that failed: the mode stays what it was
   */
  write(value: number, settle: () => number): void {
    if (
      this.#features !== 0n &&
      !hasFeature(this.#features, VIRTIO_BLK_F_CONFIG_WCE)
    ) return;
    const writeback = this.#writeback, writethrough = this.#writethrough;
    this.#writeback = value !== 0;
    this.#decide();
    const result = !writethrough && this.#writethrough ? settle() : 0;
    if (result === 0) return;
    this.#writeback = writeback;
    this.#decide();
    throw new ConfigRefusal(
      "writeback stays 1, since what was written cannot be made durable: " +
        `${errnoText(-result)} (${errnoName(-result)})`,
    );
  }

  /** The driver reset the device. */
  reset(): void {
    this.#writeback = this.#writeback && this.#initial;
    this.#features = 0n;
    this.#negotiated = false;
    this.#decide();
  }

  #decide(): void {
    if (hasFeature(this.#features, VIRTIO_BLK_F_CONFIG_WCE)) {
      this.#writethrough = !this.#writeback;
    } else if (hasFeature(this.#features, VIRTIO_BLK_F_FLUSH)) {
      this.#writethrough = !this.#initial;
    } else {
      this.#writethrough = true;
    }
  }
}
