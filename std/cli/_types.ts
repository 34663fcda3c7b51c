/**
 * The type of parsed arguments, computed from the options.
 *
 * A dotted name is a path into nested objects, so the names are cut at their
 * first dot, level by level: a {@linkcode Tree} has a property for each head,
 * which is a leaf where a name ends there and a tree of the tails elsewhere.
 * The parameters keep their letters throughout: `B` the boolean names, `S` the
 * string names, `C` the collected names, `N` the negatable names, `D` the
 * defaults and `A` the aliases.
 */

/** Type of the option `boolean`. */
export type BooleanNames = boolean | string | undefined;
/** Type of the options `string`, `collect` and `negatable`. */
export type ArgNames = string | undefined;
/** Type of the option `alias`. */
export type Aliases<
  TArgNames = string,
  TAliasNames extends string = string,
> = Partial<
  Record<
    Extract<TArgNames, string>,
    TAliasNames | ReadonlyArray<TAliasNames>
  >
>;

/** An object type written out as one literal, at every level. */
export type Flat<T> = T extends Record<string, unknown>
  ? { [K in keyof T]: Flat<T[K]> }
  : T;

type Head<Name> = Name extends `${infer H}.${string}` ? H
  : Extract<Name, string>;
type Tail<Name, H extends string> = Name extends `${H}.${infer Rest}` ? Rest
  : never;

type Listed<T, Wanted> = Wanted extends true ? T[] : T;
type Has<H, Names> = H extends Names ? true : false;

type Leaf<H, B, S, C, N> =
  | (H extends B ? Listed<boolean, Has<H, C>> : never)
  | (H extends S ? Listed<string, Has<H, C>> | (H extends N ? false : never)
    : never)
  | (H extends Exclude<C, B | S> ? unknown[] | (H extends N ? false : never)
    : never);

type Branch<H extends string, B, S, C, N> = [Tail<B | S | C, H>] extends [never]
  ? never
  : Tree<Tail<B, H>, Tail<S, H>, Tail<C, H>, Tail<N, H>>;

type Node<H extends string, B, S, C, N> =
  | Leaf<H, B, S, C, N>
  | Branch<H, B, S, C, N>;

/** Booleans and lists are always there, a string only where it was given. */
type Tree<B, S, C, N> =
  & { [H in Head<B | C>]: Node<H, B, S, C, N> }
  & { [H in Exclude<Head<S>, Head<B | C>>]?: Node<H, B, S, C, N> };

type Undotted<D> = {
  [H in Head<keyof D>]:
    | (H extends keyof D ? D[H] : never)
    | ([Tail<keyof D, H>] extends [never] ? never
      : Undotted<
        { [R in Tail<keyof D, H>]: D[`${H}.${R}` & keyof D] }
      >);
};

type Merged<T, D> = [T, D] extends
  [Record<string, unknown>, Record<string, unknown>] ? WithDefaults<T, D>
  : T | D;

/** A default makes its property present, and adds its own type. */
type WithDefaults<T, D> =
  & Omit<T, keyof D>
  & {
    [K in keyof D]: K extends keyof T ? Merged<NonNullable<T[K]>, D[K]>
      : unknown;
  };

type Defaulted<T, D> = D extends Record<string, unknown>
  ? WithDefaults<T, Undotted<D>>
  : T;

type AliasesOf<K, A> = K extends keyof A ? A[K] extends string ? Literal<A[K]>
  : A[K] extends ReadonlyArray<infer Name> ? Literal<Name>
  : never
  : never;

type Literal<Name> = string extends Name ? never : Extract<Name, string>;

type Aliased<T, A> = { [K in keyof T as K | AliasesOf<K, A>]: T[K] };

/** Whether any option names an argument, or says that all are booleans. */
type IsTyped<B, S, C> = [Exclude<B, false | undefined>] extends [never]
  ? [Exclude<S, undefined>] extends [never]
    ? [Exclude<C, undefined>] extends [never] ? false : true
  : true
  : true;

/** Whether the options are so general that they name nothing in particular. */
type IsGeneral<B, S, C> = string extends B & string ? true
  : string extends S & string ? true
  : string extends C & string ? true
  : false;

type Text<Names> = Extract<Names, string>;

/** The type of the arguments that options describe. */
export type Values<
  B extends BooleanNames,
  S extends ArgNames,
  C extends ArgNames,
  N extends ArgNames,
  D extends Record<string, unknown> | undefined,
  A extends Aliases | undefined,
> = IsGeneral<B, S, C> extends true
  // deno-lint-ignore no-explicit-any
  ? Record<string, any>
  // deno-lint-ignore no-explicit-any
  : IsTyped<B, S, C> extends false ? Record<string, any>
  :
    & Record<string, unknown>
    & Aliased<Defaulted<Tree<Text<B>, Text<S>, Text<C>, Text<N>>, D>, A>;

/** Paths of all lengths, as the keys of defaults: a hint for editors. */
export type DefaultsHint<B, S> =
  & Record<string, unknown>
  & { [Name in Text<B> | Text<S> | Head<B | S>]?: unknown };
