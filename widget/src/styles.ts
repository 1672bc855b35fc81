// The style sheets as Lit takes them. The build hands each .css file over as minified text; in the page they
// become adopted style sheets, which a strict style-src allows.

import { unsafeCSS } from "lit";
import controlsText from "./styles/controls.css";
import frameText from "./styles/frame.css";
import panelText from "./styles/panel.css";
import thumbText from "./styles/thumb.css";
import turnsText from "./styles/turns.css";

export const controls = unsafeCSS(controlsText);
export const frame = unsafeCSS(frameText);
export const panel = unsafeCSS(panelText);
export const thumb = unsafeCSS(thumbText);
export const turns = unsafeCSS(turnsText);
