// The body of stream_image.cpp, which includes it once for each set of vector instructions, inside
// a namespace where Line is 16 floats of that set.

// A row of the output: row(i) has its values i to i + 15.
template <MeanKind kMean, bool kMirror>
struct Row {
  const uint8_t* in;
  const float* mean;
  int64_t width;
  Line channel_mean, scale;

  Line operator()(int64_t i) const {
    const int64_t place = kMirror ? width - kStreamWidth - i : i;
    Line line = Line::of_bytes(in + place);
    if (kMean == MeanKind::kPerChannel) line = line - channel_mean;
    if (kMean == MeanKind::kImage) line = line - Line::load(mean + place);
    line = line * scale;
    return kMirror ? line.reversed() : line;
  }
};

// Rows follow each other without a gap, so that most lines of the output hold the end of one row
// and the beginning of the next: the last values of a row wait in a register for it.
template <MeanKind kMean, bool kMirror>
void stream_rows(const ImageView& image, const Window& window, const TransformParams& params,
                 float* out) {
  const int64_t width = params.width;
  const Line scale = Line::fill(params.scale);
  Line last = Line::fill(0.0f);
  auto held = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kLineBytes / sizeof(float));
  float* line = out - held;  // the next to write; its first `held` values are in `last`
  for (int64_t c = 0; c < image.channels; ++c) {
    const Line channel_mean = Line::fill(kMean == MeanKind::kPerChannel ? params.mean[c] : 0.0f);
    for (int64_t h = 0; h < params.height; ++h) {
      const int64_t row = window.top + h;
      const uint8_t* in =
          image.data + c * image.channel_stride + row * image.row_stride + window.left;
      const float* mean = params.mean;
      if (kMean == MeanKind::kImage) mean += (c * image.height + row) * image.width + window.left;
      for (int64_t i = 0; i < width; i += kLineBytes)
        prefetch(in + kRowsAhead * image.row_stride + i);

      const Row<kMean, kMirror> row_values{in, mean, width, channel_mean, scale};
      int64_t i = 0;
      if (held != 0) {
        if (c == 0 && h == 0) {
          row_values(0).store(out);  // the image before ends in this line
        } else {
          Line::join(last, row_values(0), held).stream(line);
        }
        line += kStreamWidth;
        i = kStreamWidth - held;
      }
      for (; i + kStreamWidth <= width; i += kStreamWidth, line += kStreamWidth) {
        row_values(i).stream(line);
      }
      held = width - i;
      last = row_values(width - kStreamWidth);
    }
  }
  float tail[kStreamWidth];
  last.store(tail);
  for (int64_t i = 0; i < held; ++i) line[i] = tail[kStreamWidth - held + i];
}

template <MeanKind kMean>
void choose_mirror(const ImageView& image, const Window& window, const TransformParams& params,
                   float* out) {
  if (window.mirror) {
    stream_rows<kMean, true>(image, window, params, out);
  } else {
    stream_rows<kMean, false>(image, window, params, out);
  }
}

void stream_image(const ImageView& image, const Window& window, const TransformParams& params,
                  float* out) {
  switch (params.mean_kind) {
    case MeanKind::kNone:
      return choose_mirror<MeanKind::kNone>(image, window, params, out);
    case MeanKind::kPerChannel:
      return choose_mirror<MeanKind::kPerChannel>(image, window, params, out);
    case MeanKind::kImage:
      return choose_mirror<MeanKind::kImage>(image, window, params, out);
  }
}
