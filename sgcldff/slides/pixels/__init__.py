"""What pixels mean: one contract that slides, training images and masks keep, whatever their format.

- Axes are taken by their names. A file of several pages, focal planes or times is refused unless one is named.
- Of several pictures in a file the largest is meant that is no label, macro picture, thumbnail or mask.
- Colours are what the file declares (RGB, palette, CMYK, YCbCr; named channels in any order), at 8 bits a sample;
  deeper samples are scaled by the depth that is declared. What is grey or no brightfield RGB is no stained smear.
  Profiles of colour (ICC) are not applied.
- What is transparent lies on white paper.
- A picture stands upright: orientations (EXIF, TIFF tag 274) are applied, and all places are told in that frame.
- Pixels are square.
- Whatever a decoder raises is the fault of the file that it decodes (`sgcldff.slides.pixels.decoding`).
"""
