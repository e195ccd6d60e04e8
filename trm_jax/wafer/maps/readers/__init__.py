"""Files of wafer maps: arrays, tables of text, pictures, frames, folders of them."""
