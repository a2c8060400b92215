"""Parameters of any shape go through the Lanczos iteration: a learned temperature is a number without dimensions."""

import numpy as np
import torch

from scoring.curvature.lanczos import lanczos


def test_a_scalar_beside_a_matrix_gives_the_eigenvalues_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix = half @ half.T
    like = [torch.zeros((), dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)]

    def product(vector):
        found = matrix @ torch.cat([part.reshape(-1) for part in vector])
        return [found[0], found[1:].view(2, 3)]

    krylov = lanczos(product, like, 7)
    tridiagonal = np.diag(krylov.diagonal) + np.diag(krylov.off_diagonal[:6], 1) + np.diag(krylov.off_diagonal[:6], -1)
    values = np.linalg.eigvalsh(tridiagonal)
    np.testing.assert_allclose(values, torch.linalg.eigvalsh(matrix).numpy(), rtol=1e-10, atol=1e-10)
