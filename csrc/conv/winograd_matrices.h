// The matrices of Winograd's minimal filtering F(m, r): m outputs of a filter with r taps from
// m + r - 1 products,
//
//   y = A^T ((G g) * (B^T d)),                     m + r - 1 numbers d, r weights g
//
// The compiler makes them by the Cook-Toom construction: d and g are polynomials, multiplied by
// their values at m + r - 2 points and at infinity.  S. Winograd, Arithmetic Complexity of
// Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR
// 2016.
//
// The points decide the rounding errors.  0, +-2/3 and +-3/2 keep the powers small and near each
// other: on normal inputs a quarter of the largest error of Lavin and Gray's 0, +-1 and +-2.
#pragma once

namespace caffe_compat {

template <int rows, int columns>
struct Matrix {
  float at[rows][columns] = {};

  constexpr Matrix<columns, rows> transposed() const {
    Matrix<columns, rows> result;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) result.at[j][i] = at[i][j];
    }
    return result;
  }
};

template <int m, int r>
struct Winograd {
  static constexpr int kTile = m + r - 1;

 private:
  struct All {
    Matrix<m, kTile> output;     // A^T
    Matrix<kTile, r> weight;     // G
    Matrix<kTile, kTile> input;  // B^T
  };

  static constexpr All make() {
    constexpr double kPoints3[] = {0, 1, -1};
    constexpr double kPoints5[] = {0, 2. / 3, -2. / 3, 1.5, -1.5};
    static_assert(kTile == 4 || kTile == 6, "points are chosen for tiles of 4 and 6");
    const double* points = kTile == 4 ? kPoints3 : kPoints5;
    constexpr int count = kTile - 1;
    All all;
    for (int j = 0; j < kTile; ++j) {
      // Lagrange's polynomial of point j before its division by `scale`; for infinity the product
      // over all points.
      double polynomial[kTile] = {1}, scale = 1;
      for (int other = 0; other < count; ++other) {
        if (other == j) continue;
        if (j < count) scale *= points[j] - points[other];
        for (int i = kTile - 1; i >= 0; --i) {
          polynomial[i] = (i > 0 ? polynomial[i - 1] : 0) - points[other] * polynomial[i];
        }
      }
      for (int i = 0; i < kTile; ++i) all.input.at[j][i] = static_cast<float>(polynomial[i]);
      double power = 1;
      for (int i = 0; i < (m > r ? m : r); ++i) {
        const bool infinity = j == count;
        if (i < m) all.output.at[i][j] = static_cast<float>(infinity ? i == m - 1 : power);
        if (i < r) all.weight.at[j][i] = static_cast<float>(infinity ? i == r - 1 : power / scale);
        if (!infinity) power *= points[j];
      }
    }
    return all;
  }

  static constexpr All kAll = make();

 public:
  static constexpr Matrix<m, kTile> kOutput = kAll.output;
  static constexpr Matrix<kTile, r> kWeight = kAll.weight;
  static constexpr Matrix<kTile, kTile> kInput = kAll.input;
  // Of the gradients.
  static constexpr Matrix<kTile, m> kOutputGrad = kOutput.transposed();  // A
  static constexpr Matrix<r, kTile> kWeightGrad = kWeight.transposed();  // G^T
};

}  // namespace caffe_compat
