/**
 * Reads and writes of the device configuration space, whoever serves them.
 *
 * @module
 */

import { VHOST_USER_MAX_CONFIG_SIZE } from "./constants.ts";
import { decodeConfig, encodeConfig } from "./message.ts";

/** What a write changes. */
export interface ConfigWrite {
  /** Of the first byte. */
  readonly offset: number;
  /** The bytes; none where the write lies beyond the end. */
  readonly data: Uint8Array;
}

/**
 * Answers a read with exactly the bytes that were asked for. What lies beyond
 * the end of the device's own configuration reads as zeroes: front-ends ask
 * for the layout that they know, which may be newer and longer than ours, and
 * its fields belong to features that are not offered. A read that is empty or
 * leaves the 256 bytes that a configuration may have is answered with a
 * payload of no bytes, which means failure.
 *
 * @param request number of the message
 * @param payload of the message
 * @returns payload of the reply
 * @throws {ProtocolError} when the payload is none
 */
export function answerConfigRead(
  config: Uint8Array,
  request: number,
  payload: Uint8Array,
): Uint8Array {
  const { offset, size, flags } = decodeConfig(request, payload, true);
  const end = offset + size;
  if (size === 0 || end > VHOST_USER_MAX_CONFIG_SIZE) return new Uint8Array(0);
  const data = new Uint8Array(size);
  data.set(config.subarray(offset, end));
  return encodeConfig(offset, flags, data);
}

/**
 * What a write changes in a space. What lies beyond its end is cut off: some
 * front-ends send more than there is, and a write is never refused.
 *
 * @param request number of the message
 * @param payload of the message
 * @throws {ProtocolError} when the payload is none
 */
export function decodeConfigWrite(
  config: Uint8Array,
  request: number,
  payload: Uint8Array,
): ConfigWrite {
  const { offset, data } = decodeConfig(request, payload, false);
  const room = Math.max(0, config.length - offset);
  return { offset, data: data.slice(0, room) };
}
