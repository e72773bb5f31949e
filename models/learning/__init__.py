"""What only training needs: objectives, losses, discriminator, growing."""
