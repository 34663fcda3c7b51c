/**
 * What must be known of requests in flight after the device process died: a
 * model of inflight tracking, from vhost-user.rst ("Inflight I/O tracking").
 *
 * @module
 */

/** What the area holds, and what the process keeps beside it. */
export interface Tracking {
  /** Heads in flight, with the number of their taking. */
  readonly marks: ReadonlyMap<number, number>;
  /** The head answered before each. */
  readonly links: ReadonlyMap<number, number>;
  /** The head answered last. */
  readonly last: number;
  /** The used index when answers were shown last. */
  readonly noted: number;
  /** Number of the last taking; lost with the process. */
  readonly counter: number;
  /** Heads answered and not shown; lost with the process. */
  readonly batch: readonly number[];
}

/** An area that was never used. */
export const UNTRACKED: Tracking = {
  marks: new Map(),
  links: new Map(),
  last: 0,
  noted: 0,
  counter: 0,
  batch: [],
};

/** A head was taken for the first time. */
export function tracksTake(old: Tracking, head: number): Tracking {
  const counter = old.counter + 1;
  return { ...old, counter, marks: new Map([...old.marks, [head, counter]]) };
}

/** A head was given back. */
export function tracksUntake(old: Tracking, head: number): Tracking {
  return { ...old, marks: without(old.marks, [head]) };
}

/**
 * A head was answered. A driver that makes heads available again before it sees
 * their answers can have more answers at a time than there are heads; what is
 * beyond that is its own affair.
 */
export function tracksAnswer(
  old: Tracking,
  head: number,
  size: number,
): Tracking {
  return {
    ...old,
    links: new Map([...old.links, [head, old.last]]),
    last: head,
    batch: old.batch.length < size ? [...old.batch, head] : old.batch,
  };
}

/** The driver sees all answers. */
export function tracksPublish(old: Tracking, used: number): Tracking {
  const marks = without(old.marks, old.batch);
  return { ...old, marks, batch: [], noted: used };
}

/** What a successor finds: its own tracking, and the heads to take again. */
export function recover(
  old: Tracking,
  used: number,
  size: number,
): { tracking: Tracking; heads: readonly number[] } {
  const shown: number[] = [];
  const ahead = (used - old.noted + 65536) % 65536;
  let head = old.last;
  for (let i = 0; ahead <= size && i < ahead && head < size; i++) {
    shown.push(head);
    head = old.links.get(head) ?? 0;
  }
  const marks = without(old.marks, shown);
  const order = [...marks].sort((a, b) => a[1] - b[1]);
  return {
    tracking: {
      ...old,
      marks,
      noted: used,
      counter: order.at(-1)?.[1] ?? 0,
      batch: [],
    },
    heads: order.map(([head]) => head),
  };
}

function without(
  marks: ReadonlyMap<number, number>,
  heads: readonly number[],
): ReadonlyMap<number, number> {
  return new Map([...marks].filter(([head]) => !heads.includes(head)));
}
