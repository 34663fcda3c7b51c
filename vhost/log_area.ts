/**
 * The memory of a dirty log, as a front-end shares it.
 *
 * Theory of operation: `SET_LOG_BASE` brings a log, which stays mapped until
 * another comes, logging ends, or the front-end leaves. It is written while
 * `VHOST_F_LOG_ALL` is acknowledged, by the data plane, which is told of it and
 * gives it up before it is unmapped. A log has a bit for every page of every
 * region, and of the place where each used ring is logged; that is checked
 * whenever one of these changes, so that no write goes unlogged.
 *
 * Source: vhost-user.rst, "Migration" and "Log description".
 *
 * @module
 */

import type { OwnedFd } from "../sys/fd.ts";
import { mapFile, type Mapping } from "../sys/mapping.ts";
import { sealAgainstShrinking } from "../sys/memfd.ts";
import { dirtyLogSize } from "../virtqueue/dirty_log.ts";
import { hasFeature, VIRTIO_F_EVENT_IDX } from "../virtqueue/constants.ts";
import type { MappedLog } from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import type { LogDescription } from "./message.ts";
import { ringsArePacked } from "./rings.ts";
import type { SessionState } from "./state.ts";
import { ringLengths, type Vring } from "./vring.ts";

/** Largest log in bytes: that of 128 TiB of guest addresses. */
const MAX_LOG_SIZE = 2 ** 32;

/** A log that a front-end brought. */
export class LogArea implements MappedLog {
  readonly address: number;
  readonly size: number;
  readonly #mapping: Mapping;

  /**
   * Maps a log.
   *
   * @param file taken over, and closed: the mapping lives without it
   * @throws {ProtocolError} of kind `log-area`
   */
  constructor(request: number, description: LogDescription, file: OwnedFd) {
    using backing = file;
    const { mmapSize, mmapOffset } = description;
    if (mmapSize < 1 || mmapSize > MAX_LOG_SIZE) {
      throw new ProtocolError(
        "log-area",
        request,
        `a log of ${mmapSize} bytes is not from 1 to ${MAX_LOG_SIZE}`,
      );
    }
    try {
      sealAgainstShrinking(backing.fd);
      this.#mapping = mapFile(backing.fd, {
        offset: mmapOffset,
        size: mmapSize,
      });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ProtocolError(
        "log-area",
        request,
        `a log of ${mmapSize} bytes at ${mmapOffset} cannot be mapped: ${reason}`,
        { cause },
      );
    }
    this.address = this.#mapping.address;
    this.size = mmapSize;
  }

  /** Unmaps the log. The data plane has no view of it. */
  release(): void {
    this.#mapping.unmap();
  }
}

/** What must have room in a log. */
interface Logged {
  /** The end of what is logged, as a guest address. */
  readonly end: number;
  /** What it is, for people. */
  readonly what: string;
}

/**
 * Checks that a log has a bit for each page of what is logged.
 *
 * @throws {ProtocolError} of kind `log-area`
 */
function requireRoom(
  request: number,
  log: MappedLog,
  logged: readonly Logged[],
): void {
  for (const { end, what } of logged) {
    const needed = dirtyLogSize(end);
    if (needed <= log.size) continue;
    throw new ProtocolError(
      "log-area",
      request,
      `a log of ${log.size} bytes is less than the ${needed} that ${what} needs`,
    );
  }
}

/** The end of a region. */
export function loggedRegion(
  region: { readonly guestAddress: number; readonly size: number },
): Logged {
  const { guestAddress, size } = region;
  return {
    end: guestAddress + size,
    what: `the region at 0x${guestAddress.toString(16)}`,
  };
}

/** The end of a used ring's place in the log. */
export function loggedRing(
  state: SessionState,
  ring: Vring,
  usedLog: number = ring.usedLog,
): Logged {
  const eventIdx = hasFeature(state.features, VIRTIO_F_EVENT_IDX);
  // Of a packed ring this is the device event; its descriptors are in a region.
  const { used } = ringLengths(ring.size, eventIdx, ringsArePacked(state));
  return {
    end: usedLog < 0 ? 0 : usedLog + used,
    what: `the used ring of ring ${ring.index}`,
  };
}

/** Checks that a log has room for all that is there. */
export function requireRoomForAll(
  request: number,
  log: MappedLog,
  state: SessionState,
): void {
  requireRoom(request, log, [
    ...state.memory.regions.map(loggedRegion),
    ...state.rings.map((ring) => loggedRing(state, ring)),
  ]);
}

/** Checks that something new has room in the log, if one is being written. */
export function requireLogged(
  request: number,
  state: SessionState,
  ...logged: Logged[]
): void {
  if (state.loggedTo !== null) requireRoom(request, state.loggedTo, logged);
}

/** Has the data plane log, or not, as features and log now say. */
export async function applyLog(state: SessionState): Promise<void> {
  const wanted = state.logging ? state.logArea : null;
  if (wanted === state.loggedTo) return;
  await state.plane.logWrites(wanted);
  if (wanted === null) state.log.info("writes are not logged any more");
  else if (state.loggedTo === null) state.log.info("writes are logged");
  state.loggedTo = wanted;
}

/** Logging is over: gives the log back. */
export async function dropLog(state: SessionState): Promise<void> {
  const { logArea } = state;
  state.logArea = null;
  await applyLog(state);
  logArea?.release();
}

/** Has another descriptor signalled when the log is written; `null`: none. */
export async function replaceLogFd(
  state: SessionState,
  fd: OwnedFd | null,
): Promise<void> {
  const old = state.logFd;
  state.logFd = fd;
  await state.plane.setLogFd(fd?.fd ?? -1);
  old?.close();
}
