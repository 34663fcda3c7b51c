import { fromFileUrl } from "./from_file_url.ts";

/** A path given as text or as a file URL, as text. */
export function textOf(path: string | URL): string {
  if (path instanceof URL) return fromFileUrl(path);
  if (typeof path !== "string") {
    throw new TypeError(
      `Path must be a string, received "${JSON.stringify(path)}"`,
    );
  }
  return path;
}
