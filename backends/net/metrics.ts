/**
 * What a network device counts.
 *
 * @module
 */

import { HEADER_OK, HEADER_VERDICTS } from "./header.ts";

/** Counters of a network device, as the guest sees directions. Every one only grows. */
export class NetMetrics {
  /** Frames that the guest received. */
  rxFrames = 0;
  /** Their bytes, without virtio headers. */
  rxBytes = 0;
  /** Frames, or first pieces of such, for which the guest had no buffer. */
  rxNoBuffer = 0;
  /** Frames that the guest's buffer was too short for. */
  rxTooLong = 0;
  /** Buffers that no frame could be put into. */
  rxBadBuffer = 0;
  /** Frames that the driver's filter kept away. */
  rxFiltered = 0;
  /** Frames that came while the link was down. */
  rxLinkDown = 0;
  /** Frames of less than 14 bytes, or of more than an IP packet has, that came. */
  rxBadLength = 0;
  /** Frames that the guest sent. */
  txFrames = 0;
  /** Their bytes, without virtio headers. */
  txBytes = 0;
  /** Frames of less than 14 bytes. */
  txRunts = 0;
  /** Frames of more than an IP packet has, or of too many pieces. */
  txGiants = 0;
  /** Frames shorter than their virtio header. */
  txShortHeader = 0;
  /** Frames that the guest sent while the link was down. */
  txLinkDown = 0;
  /** Frames that nobody took for too long. */
  txStalled = 0;
  /** Commands on the control queue. */
  commands = 0;
  /** Those that were refused. */
  refusedCommands = 0;
  readonly #headers = new Float64Array(HEADER_VERDICTS.length);

  /** Counts a frame that was dropped for its virtio header. */
  refuseHeader(verdict: number): void {
    this.#headers[verdict]++;
  }

  /** The counters as JSON; of header defects, those that happened. */
  toJSON(): Record<string, unknown> {
    const badHeaders: Record<string, number> = {};
    for (let i = HEADER_OK + 1; i < HEADER_VERDICTS.length; i++) {
      if (this.#headers[i] > 0) {
        badHeaders[HEADER_VERDICTS[i]] = this.#headers[i];
      }
    }
    return { ...Object.fromEntries(Object.entries(this)), badHeaders };
  }
}
