/**
 * Tests of types: they hold when this file passes the type check, so their
 * bodies need not do anything.
 */
import { type Args, parseArgs, type ParseOptions } from "@std/cli/parse-args";

/** An object type written out as one literal, at every level. */
type Flat<T> = T extends Record<PropertyKey, unknown>
  ? { [K in keyof T]: Flat<T[K]> }
  : T;
type Same<A, B> = (<X>() => X extends Flat<A> ? 1 : 2) extends
  (<X>() => X extends Flat<B> ? 1 : 2) ? true : false;

/** Fails the type check unless the type argument is `true`. */
function holds<_T extends true>(): void {}

type Plain = { _: (string | number)[] };
type Typed<T> = { [x: string]: unknown } & Plain & T;
// deno-lint-ignore no-explicit-any
type Untyped = { [x: string]: any } & Plain;

Deno.test("parseArgs() without names gives anything", () => {
  const plain = parseArgs([]);
  const disabled = parseArgs([], { boolean: false });
  const defaults = parseArgs([], { boolean: false, default: { a: 1 } });
  holds<Same<typeof plain, Untyped>>();
  holds<Same<typeof disabled, Untyped>>();
  holds<Same<typeof defaults, Untyped>>();
});

Deno.test("parseArgs() types booleans, strings and lists", () => {
  const all = parseArgs([], { boolean: true });
  const args = parseArgs([], {
    boolean: ["a", "bs"],
    string: ["c", "d-e", "fs"],
    collect: ["bs", "fs", "gs"],
  });
  const empty = parseArgs([], { boolean: [], collect: ["a"] });
  holds<Same<typeof all, Typed<Record<never, never>>>>();
  holds<
    Same<
      typeof args,
      Typed<{
        a: boolean;
        bs: boolean[];
        c?: string;
        "d-e"?: string;
        fs: string[];
        gs: unknown[];
      }>
    >
  >();
  holds<Same<typeof empty, Typed<{ a: unknown[] }>>>();
});

Deno.test("parseArgs() types paths", () => {
  const args = parseArgs([], {
    boolean: ["a", "b.c", "b.d.e", "f.g.h"],
    string: ["i", "f.j", "f.g.k", "b.d.l", "m.n.o"],
    collect: ["p.q"],
  });
  holds<
    Same<
      typeof args,
      Typed<{
        a: boolean;
        b: { c: boolean; d: { e: boolean; l?: string } };
        f: { g: { h: boolean; k?: string }; j?: string };
        i?: string;
        m?: { n?: { o?: string } };
        p: { q: unknown[] };
      }>
    >
  >();
});

Deno.test("parseArgs() types negatable arguments", () => {
  const args = parseArgs([], {
    boolean: ["a", "b.c"],
    string: ["d", "e", "b.f"],
    negatable: ["a", "d", "b.f", "b.c"],
  });
  holds<
    Same<
      typeof args,
      Typed<{
        a: boolean;
        b: { c: boolean; f?: string | false };
        d?: string | false;
        e?: string;
      }>
    >
  >();
});

Deno.test("parseArgs() types defaults", () => {
  const args = parseArgs([], {
    boolean: ["a", "b.c", "b.d"],
    string: ["e", "f", "g", "h", "b.i"],
    collect: ["h"],
    default: {
      a: 1,
      b: { c: new Date(0), i: /a/ },
      e: null,
      f: undefined,
      h: 1,
      other: true,
    },
  });
  holds<
    Same<
      typeof args,
      Typed<{
        a: boolean | number;
        b: { c: boolean | Date; d: boolean; i: string | RegExp };
        e: string | null;
        f: string | undefined;
        g?: string;
        h: string[] | number;
        other: unknown;
      }>
    >
  >();
});

Deno.test("parseArgs() types defaults that are paths", () => {
  const args = parseArgs([], {
    boolean: ["a.b.c"],
    string: ["d.e.f", "g"],
    default: { "a.b": new Date(0), d: 2, "g.h": 3, "i.j": 4 },
  });
  holds<
    Same<
      typeof args,
      Typed<{
        a: { b: Date | { c: boolean } };
        d: number | { e?: { f?: string } };
        g: string | { h: number };
        i: unknown;
      }>
    >
  >();
});

Deno.test("parseArgs() types aliases", () => {
  const args = parseArgs([], {
    boolean: ["a"],
    string: ["d", "f"],
    negatable: ["d"],
    alias: { a: ["b", "c"], d: "e" },
    default: { d: 1 },
  });
  holds<
    Same<
      typeof args,
      Typed<{
        a: boolean;
        b: boolean;
        c: boolean;
        d: string | false | number;
        e: string | false | number;
        f?: string;
      }>
    >
  >();
});

Deno.test("parseArgs() types what follows --", () => {
  const args = parseArgs([], { string: ["a"], "--": true });
  const explicit = parseArgs<{ a?: number } & { b: string }, true>([]);
  holds<Same<typeof args, Typed<{ a?: string; "--": string[] }>>>();
  type Explicit = Plain & { a?: number; b: string; "--": string[] };
  holds<Same<typeof explicit, Explicit>>();
  holds<Same<Args<{ a?: number } & { b: string }, true>, Explicit>>();
});

Deno.test("parseArgs() takes options of the general type", () => {
  const options: ParseOptions = { boolean: ["a"] };
  const args: readonly string[] = [];
  const parsed = parseArgs(args, options);
  holds<Same<typeof parsed, Untyped & { "--"?: string[] }>>();
  holds<
    Same<
      Pick<ParseOptions<"a", "b" | "c">, "boolean" | "string">,
      {
        boolean?: "a" | ReadonlyArray<"a">;
        string?: "b" | "c" | ReadonlyArray<"b" | "c">;
      }
    >
  >();
});
