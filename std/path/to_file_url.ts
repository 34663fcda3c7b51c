import { isAbsolute } from "./is_absolute.ts";

/**
 * The file URL of an absolute path.
 *
 * @param path The path.
 * @throws {TypeError} When the path is not absolute.
 */
export function toFileUrl(path: string): URL {
  if (!isAbsolute(path)) {
    throw new TypeError(`Path must be absolute: received "${path}"`);
  }
  const url = new URL("file:///");
  // What the URL parser would take for syntax, or drop, goes in escaped.
  url.pathname = path.replace(/^\/+/, "/").replaceAll(
    /[%\\\t\n\v\f\r ]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
  return url;
}
