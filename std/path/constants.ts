import { posix } from "node:path";

/** What separates the entries of the environment variable PATH. */
export const DELIMITER = posix.delimiter as ":";
/** What separates the segments of a path. */
export const SEPARATOR = posix.sep as "/";
/** One or more separators. */
export const SEPARATOR_PATTERN = /\/+/;
