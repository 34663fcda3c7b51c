/**
 * What tests of persistent reservations are written with.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { unhex } from "../names.ts";
import type { CommandBuffers, TestInitiator } from "./bench.ts";
import { be, data } from "./cases.ts";

/** A Data-In Buffer for all that is read here. */
export const ROOM: CommandBuffers = { room: 4096 };
/** Reservation keys. */
export const A = "00000000000000aa", B = "00000000000000bb";
/** No key. */
export const NONE = "0000000000000000";
/** RESERVATION CONFLICT. */
export const CONFLICT = 0x18;
/** Types of reservations. */
export const WE = 1, EA = 3, WERO = 5, EARO = 6, WEAR = 7, EAAR = 8;
/** A command. */
export const TUR: readonly number[] = [0, 0, 0, 0, 0, 0];
/** A command. */
export const READ: readonly number[] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/** A command. */
export const WRITE: readonly number[] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/** A parameter list: keys and byte 20. */
export function list(key: string, action: string, flags = 0): Uint8Array {
  return Uint8Array.from([
    ...unhex(key),
    ...unhex(action),
    ...[0, 0, 0, 0, flags, 0, 0, 0],
  ]);
}

/** A CDB of PERSISTENT RESERVE OUT. */
export function cdb(action: number, type = 0, length = 24): number[] {
  return [0x5f, action, type, 0, 0, ...be(length, 4), 0];
}

/** Runs a service action; its status. */
export function out(
  initiator: TestInitiator,
  action: number,
  key: string,
  actionKey: string,
  type = 0,
  flags = 0,
): number {
  const list24 = list(key, actionKey, flags);
  return initiator.run(cdb(action, type), { out: list24 }).status;
}

/** Registers an initiator, whatever was before. */
export function register(initiator: TestInitiator, key: string): void {
  assertEquals(out(initiator, 6, NONE, key), 0);
}

/** What a service action of PERSISTENT RESERVE IN returns. */
export function readIn(initiator: TestInitiator, action: number): number[] {
  return [...data(initiator.run(
    [0x5e, action, 0, 0, 0, 0, 0, ...be(4096, 2), 0],
    ROOM,
  ))];
}

/** Statuses of TEST UNIT READY, READ and WRITE. */
export function access(initiator: TestInitiator): number[] {
  return [
    initiator.run(TUR).status,
    initiator.run(READ, { room: 512 }).status,
    initiator.run(WRITE, { out: new Uint8Array(512) }).status,
  ];
}

/** The unit attention condition that an initiator has, or 0. */
export function attention(initiator: TestInitiator): number {
  return initiator.run(TUR).sense?.asc ?? 0;
}
