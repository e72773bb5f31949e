"""What only training needs: objectives, losses, discriminators, and growing to larger images."""
