// The widget's few pictures, drawn in the colour of the text around them.

import { svg, type SVGTemplateResult } from "lit";

const icon = (paths: string, filled = false): SVGTemplateResult => svg`
  <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false" stroke="currentColor"
    stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" fill=${filled ? "currentColor" : "none"}>
    <path d=${paths}></path>
  </svg>`;

const HAND =
  "M7 10.5v10M15 6l-1 4.5h5.8a2 2 0 0 1 2 2.6l-2 6a2 2 0 0 1-2 1.4H5a2 2 0 0 1-2-2v-6a2 2 0 0 1 2-2h2.8a2 2 0 0 0 1.8-1.1L13 2.5A3 3 0 0 1 15 6Z";

export const icons = {
  chat: icon("M21 11.5a8.4 8.4 0 0 1-8.5 8.4 8.7 8.7 0 0 1-3.9-.9L3 21l1.9-5.4A8.3 8.3 0 0 1 4 11.5 8.4 8.4 0 0 1 12.5 3 8.4 8.4 0 0 1 21 11.5ZM8.6 11.6h0M12.5 11.6h0M16.4 11.6h0"),
  close: icon("M6 6l12 12M18 6L6 18"),
  down: icon("M5 9l7 7 7-7"),
  end: icon("M4 12a8 8 0 1 0 2.5-5.8L4 8.5M4 4v4.5h4.5"),
  person: icon("M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20.5a7.5 7.5 0 0 1 15 0"),
  send: icon("M5 12h13M12 5l7 7-7 7"),
  stop: icon("M7 7h10v10H7z", true),
  thumb: icon(HAND),
  thumbGiven: icon(HAND, true),
};
