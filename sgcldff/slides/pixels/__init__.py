"""The meaning of pixels: one contract for slides, training images and masks of all formats.

- Axes are identified by name. A file with several pages, focal planes or times is refused unless one is named.
- Of several pictures in a file, the largest is used that is not a label, macro image, thumbnail or mask.
- Colours are as declared by the file (RGB, palette, CMYK, YCbCr; named channels in any order), at 8 bits per sample;
  deeper samples are scaled by the declared depth. Grey images, and any that are not brightfield RGB, are refused.
  Colour profiles (ICC) are not applied.
- Transparent pixels are shown on a white background.
- Pictures are upright: orientations (EXIF, TIFF tag 274) are applied, and all positions refer to that frame.
- Pixels are square.
- Any exception of a reader is attributed to the file that it reads (`sgcldff.core.boundary`).
"""
